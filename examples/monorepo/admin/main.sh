#!/bin/sh
echo admin of the shop: "$@"
