#!/bin/sh
# Graded by a program that reads the file as data: the reward is 1 only where all of it is right.
python3 -I /tests/grade.py stock.csv >/logs/verifier/reward.json
