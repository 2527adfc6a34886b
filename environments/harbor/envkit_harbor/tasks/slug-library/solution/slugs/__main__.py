import sys

from slugs import slugify, unique

for slug in unique(slugify(line) for line in sys.stdin if line.strip()):
    print(slug)
