"""Runs the package as its users do; ends with 1 where it gives anything else than it should."""

import subprocess
import sys

SLUGS = {
    "Hello, World!": "hello-world",
    "Crème Brûlée": "creme-brulee",
    "  --  ": "untitled",
    "": "untitled",
    "ÅNGSTRÖM & Söhne": "angstrom-sohne",
    "a -- b__c": "a-b-c",
    "2031: the year": "2031-the-year",
    "日本": "untitled",
}
LINES = "Tea\nTea\n\nTea 2\ntea!\n   \nTéa\nTea 2\n"
PRINTED = ["tea", "tea-2", "tea-2-2", "tea-3", "tea-4", "tea-2-3"]


def run(*argv, stdin=""):
    command = [sys.executable, "-B", *argv]
    result = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=30, cwd="/app")
    if result.returncode:
        print(*command, "ended with", result.returncode, result.stderr[-1000:])
    return result.stdout


wrong = 0
for title, slug in SLUGS.items():
    found = run("-c", "import slugs, sys; print(slugs.slugify(sys.argv[1]))", title)
    if found != f"{slug}\n":
        print(f"slugify({title!r}) printed {found!r}, and not {slug!r}")
        wrong += 1
found = run("-m", "slugs", stdin=LINES)
if found.splitlines() != PRINTED:
    print(f"python3 -m slugs printed {found.splitlines()}, and not {PRINTED}")
    wrong += 1
found = run("-c", "import slugs; print(*slugs.unique(['a', 'a-2', 'a', 'a']))")
if found != "a a-2 a-3 a-4\n":
    print(f"unique printed {found!r}")
    wrong += 1
print(f"{wrong} wrong")
sys.exit(bool(wrong))
