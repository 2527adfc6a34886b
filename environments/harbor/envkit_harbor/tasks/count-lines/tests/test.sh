#!/bin/sh
# The one right file is made anew from the log that came with the task, not from the one that the agent has had.
reward=0
cd /tests && awk '$5 >= 500 { seen[$2]++ } END { for (client in seen) print client, seen[client] }' access.log |
    LC_ALL=C sort -k2,2nr -k1,1 >expected.txt
if diff expected.txt "$OLDPWD/errors.txt"; then
    reward=1
fi
echo "$reward" >/logs/verifier/reward.txt
