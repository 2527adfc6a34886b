"""Prints the rewards of a stock list: `reward`, and of what it is made."""

import json
import sys

EXPECTED = """\
sku,name,count,price
A-099,Cup,200,3.20
A-104,"Kettle, steel",13,34.90
B-020,Teapot,4,17.99
C-311,"Strainer, fine",10,4.75
E-500,"Tin, 250 g",33,6.10
"""

try:
    with open(sys.argv[1], newline="", encoding="utf-8") as file:
        found = file.read(100_000)
except (OSError, UnicodeDecodeError) as error:
    print(error, file=sys.stderr)
    found = ""

right, given = EXPECTED.splitlines(), found.splitlines()
rows = sum(row in given for row in right[1:]) / len(right[1:])
print(json.dumps({"reward": float(found == EXPECTED), "rows": rows, "header": float(given[:1] == right[:1])}))
