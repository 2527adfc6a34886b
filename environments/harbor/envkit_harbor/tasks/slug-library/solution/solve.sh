#!/bin/sh
set -e
cp /solution/slugs/text.py /solution/slugs/unique.py /solution/slugs/__main__.py /app/slugs/
