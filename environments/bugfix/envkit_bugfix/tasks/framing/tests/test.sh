#!/bin/sh
if python3 -I -B /tests/run.py /app; then reward=1; else reward=0; fi
echo "$reward" >/logs/verifier/reward.txt
