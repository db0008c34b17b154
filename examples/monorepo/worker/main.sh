#!/bin/sh
echo worker of the shop: "$@"
