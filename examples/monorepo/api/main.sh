#!/bin/sh
echo api of the shop: "$@"
