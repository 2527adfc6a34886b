#!/bin/sh
set -e
awk '$5 >= 500 { seen[$2]++ } END { for (client in seen) print client, seen[client] }' access.log |
    LC_ALL=C sort -k2,2nr -k1,1 >errors.txt
