#!/bin/sh
echo cron of the shop: "$@"
