#!/bin/sh
# Each case runs the package in a process of its own and is compared with what that printed, here.
if python3 -I /tests/cases.py; then
    echo 1 >/logs/verifier/reward.txt
else
    echo 0 >/logs/verifier/reward.txt
fi
