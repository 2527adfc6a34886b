"""Prints the stock of two shops as one."""

import csv
import sys


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return {row["sku"]: row for row in csv.DictReader(file)}


first, second = map(rows, sys.argv[1:])
out = csv.writer(sys.stdout, lineterminator="\n")
out.writerow(["sku", "name", "count", "price"])
for sku in sorted(first | second):
    held = [shop[sku] for shop in (first, second) if sku in shop]
    count = sum(int(row["count"]) for row in held)
    if count:
        price = min(float(row["price"]) for row in held)
        out.writerow([sku, held[0]["name"], count, f"{price:.2f}"])
