#!/bin/sh
set -e
python3 /solution/merge.py north.csv south.csv >stock.csv
