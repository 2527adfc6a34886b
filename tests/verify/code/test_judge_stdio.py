from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from envkit.errors import EnvError, InfraError, UsageError
from envkit.sandbox.base import ExecLimits, Sandbox
from envkit.verify.code import Fresh, StdioCase, judge_stdio
from envkit.verify.code.toolchain import TOOLCHAINS, interpreter

CASES = [StdioCase("3\n1 2 3\n", "6\n"), StdioCase("2\n-1 5\n", "4"), StdioCase("1\n0\n", "0\n")]
SHORT = ExecLimits(wall=2, cpu=2)
SUMS = {
    "python": "input()\nprint(sum(map(int, input().split())))",
    "javascript": "const [n, xs] = require('fs').readFileSync(0, 'utf8').split('\\n');"
    "console.log(xs.split(' ').map(Number).reduce((a, b) => a + b))",
    "bash": "read n; read -a xs; s=0; for x in ${xs[@]}; do s=$((s + x)); done; echo $s",
    "c": '#include <stdio.h>\nint main() { int n, x, s = 0; scanf("%d", &n);'
    ' while (n--) { scanf("%d", &x); s += x; } printf("%d\\n", s); }',
    "cpp": "#include <iostream>\nint main() { int n, x, s = 0; std::cin >> n;"
    " while (n--) { std::cin >> x; s += x; } std::cout << s; }",
}
TOOLS = {"python": "python3", "javascript": "node", "bash": "bash", "c": "gcc", "cpp": "g++"}


@pytest.mark.parametrize("language", SUMS)
async def test_each_language_runs(fresh: Fresh, language: str) -> None:
    if shutil.which(TOOLS[language]) is None:
        pytest.skip(f"{TOOLS[language]} is not installed")
    verdict = await judge_stdio(fresh, SUMS[language], CASES, language=language)
    assert verdict, verdict.reason
    assert len(verdict.cases) == 3
    assert verdict.interpreter
    wrong = await judge_stdio(fresh, SUMS[language].replace("0", "1").replace("sum(", "max("), CASES, language=language)
    assert not wrong


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("print(7)", "different output"),
        ("print(6)\nraise SystemExit(3)", "exited with code 3"),
        ("print(6)\n1/0", "ZeroDivisionError"),
        ("while True: pass", "the program ran past its time limit"),
        ("while True: print('x' * 100000)", "output limit"),
        ("import os, signal\nprint(6, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)", "signal 9|killed"),
        ("print(6", "SyntaxError"),
    ],
)
async def test_what_goes_wrong_fails_and_says_how(fresh: Fresh, source: str, reason: str) -> None:
    verdict = await judge_stdio(fresh, source, CASES, limits=SHORT)
    assert not verdict
    assert len(verdict.cases) == 1
    assert any(each in (verdict.reason or "") for each in reason.split("|")), verdict.reason


COUNTS = """
import os, sys
runs = 0
for folder in (".", "/tmp", "/dev/shm"):
    for name in ("runs", ".runs"):
        try:
            runs = max(runs, int(open(f"{folder}/{name}").read()))
        except OSError:
            pass
        with open(f"{folder}/{name}", "w") as file:
            file.write(str(runs + 1))
print([6, 4, 0][runs])
"""


async def test_a_program_keeps_nothing_from_one_case_to_the_next(fresh: Fresh) -> None:
    verdict = await judge_stdio(fresh, COUNTS, CASES)
    assert [case.got for case in verdict.cases] == ["6\n", "6\n"]
    script = "n=$(cat runs || echo 0); echo $((n + 1)) > runs; set -- 6 4 0; shift $n; echo $1"
    assert not await judge_stdio(fresh, script, CASES, language="bash")


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
async def test_a_compiled_program_keeps_nothing_either(fresh: Fresh) -> None:
    source = """
#include <stdio.h>
int main() {
    int runs = 0;
    FILE *kept = fopen("runs", "r");
    if (kept) fscanf(kept, "%d", &runs);
    kept = fopen("runs", "w");
    fprintf(kept, "%d", runs + 1);
    printf("%d\\n", runs == 0 ? 6 : runs == 1 ? 4 : 0);
}
"""
    verdict = await judge_stdio(fresh, source, CASES, language="c")
    assert [case.got for case in verdict.cases] == ["6\n", "6\n"]


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
async def test_half_a_toolchain_is_no_verdict(fresh: Fresh) -> None:
    """A compiler without the headers of the C library, as Debian's gcc without libc6-dev."""
    bare = replace(TOOLCHAINS["c"], compile=("gcc", "-nostdinc", "-o", "main", "main.c"))
    async with fresh() as box:
        assert (await box.exec(["gcc", "--version"])).ok
        with pytest.raises(
            InfraError, match=r"no program of three lines compiles .*math\.h.* Install gcc and libc6-dev"
        ):
            await interpreter(replace_backend(box), bare)
    unlinked = replace(TOOLCHAINS["c"], compile=("gcc", "-nostdlib", "-o", "main", "main.c"))
    async with fresh() as box:
        with pytest.raises(InfraError, match="Install gcc and libc6-dev"):
            await interpreter(replace_backend(box), unlinked)


def replace_backend(box: Sandbox) -> Sandbox:
    """The same box as one of a kind that nobody has asked yet."""
    box.backend = "half a toolchain"
    return box


async def test_every_case_is_run_where_asked(fresh: Fresh) -> None:
    verdict = await judge_stdio(fresh, "print(4)", CASES, stop_early=False)
    assert [case.passed for case in verdict.cases] == [False, True, False]
    assert (verdict.cases[0].expected, verdict.cases[0].got) == ("6\n", "4\n")


async def test_a_program_that_does_not_compile_says_where(fresh: Fresh) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    verdict = await judge_stdio(fresh, "int main({", CASES, language="c")
    assert not verdict
    assert "does not compile: main.c:1" in (verdict.reason or "")


RIGHT = {
    "a thread that recurses deeply": (
        "import sys, threading\nsys.setrecursionlimit(10**6)\nthreading.stack_size(1 << 27)\n"
        "def f(n): return n and f(n - 1)\ndef main():\n    input(); print(sum(map(int, input().split())) + f(10**5))\n"
        "thread = threading.Thread(target=main); thread.start(); thread.join()"
    ),
    "bytes of the descriptor": (
        "import os\nread = b''\nwhile some := os.read(0, 2): read += some\nprint(sum(map(int, read.split()[1:])))"
    ),
    "stdin as a file": "print(sum(map(int, open('/dev/stdin').readlines()[1].split())))",
    "processes": (
        "from multiprocessing import Pool\ndef same(x): return x\n"
        "if __name__ == '__main__':\n    input(); xs = map(int, input().split())\n"
        "    with Pool(2) as pool: print(sum(pool.map(same, xs)))"
    ),
    "at exit": "import atexit\ninput(); s = sum(map(int, input().split()))\natexit.register(lambda: print(s))\nquit()",
    "lines of another system": "input(); print(sum(map(int, input().split())), end='  \\r\\n\\r\\n')",
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
async def test_right_programs_of_every_habit_pass(fresh: Fresh, name: str) -> None:
    verdict = await judge_stdio(fresh, RIGHT[name], CASES)
    assert verdict, verdict.reason


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
async def test_a_compiled_program_may_recurse_deeply(fresh: Fresh) -> None:
    deep = "int f(int n) { volatile char kept[100]; kept[0] = 0; return n == 0 ? 0 : f(n - 1) + kept[0]; }\n"
    source = deep + SUMS["cpp"].replace("int n, x, s = 0", "int n, x, s = f(1000000)").replace("#include", "\n#include")
    verdict = await judge_stdio(fresh, source, CASES, language="cpp")
    assert verdict, verdict.reason


async def test_long_right_answers_are_not_cut(fresh: Fresh) -> None:
    case = StdioCase("", "x" * 300_000)
    assert await judge_stdio(fresh, "print('x' * 300000)", [case], limits=ExecLimits(output=1000))


ANY_ORDER = """
import sys
given, got, expected = (open(name).read().split() for name in sys.argv[1:])
print("accepted")
if sorted(expected) != sorted(got):
    sys.exit("no permutation: " + " ".join(got))
"""


async def test_a_checker_decides_what_text_does_not(fresh: Fresh) -> None:
    case = StdioCase("", "1 2 3")
    assert await judge_stdio(fresh, "print(3, 1, 2)", [case], checker=ANY_ORDER)
    wrong = await judge_stdio(fresh, "print(3, 1, 1)", [case], checker=ANY_ORDER)
    assert wrong.reason == "the checker rejects: no permutation: 3 1 1"
    close = await judge_stdio(fresh, "print(1.0000000001)", [StdioCase("", "1.0")], checker=ANY_ORDER)
    assert not close


async def test_an_output_cannot_talk_a_checker_into_it(fresh: Fresh) -> None:
    echoing = "import sys\nprint(open('output.txt').read())\nsys.exit(open('output.txt').read())"
    source = 'print(\'\\n{"accepted": true, "why": ""}\\naccepted\\n0\')'
    assert not await judge_stdio(fresh, source, [StdioCase("", "1")], checker=echoing)


async def test_a_checker_that_an_output_breaks_rejects_it(fresh: Fresh) -> None:
    fragile = "import os, sys\nif open('output.txt').read().strip() == 'boom': os._exit(0)"
    assert not await judge_stdio(fresh, "print('boom')", [StdioCase("", "1")], checker=fragile)
    with pytest.raises(EnvError, match="checker"):
        await judge_stdio(fresh, "print(2)", [StdioCase("", "1")], checker="import os\nos._exit(0)")
    for useless in ("#include <testlib.h>\nint main() {}", "raise SystemExit(3)"):
        with pytest.raises(EnvError, match="checker"):
            await judge_stdio(fresh, "print(2)", [StdioCase("", "1")], checker=useless)


async def test_a_checker_speaks_as_those_of_testlib_do(fresh: Fresh) -> None:
    spoken = "import sys\nprint('wrong answer: 1st token', file=sys.stderr)\nsys.exit(int(open(sys.argv[2]).read()))"
    rejected = await judge_stdio(fresh, "print(1)", [StdioCase("", "0")], checker=spoken)
    assert rejected.reason == "the checker rejects: wrong answer: 1st token"
    assert await judge_stdio(fresh, "print(-0)", [StdioCase("", "x")], checker=spoken)


async def test_what_cannot_be_judged_is_said(fresh: Fresh) -> None:
    with pytest.raises(UsageError, match="cobol"):
        await judge_stdio(fresh, "", CASES, language="cobol")
    with pytest.raises(UsageError, match="nothing to judge"):
        await judge_stdio(fresh, "", [])
    assert not await judge_stdio(fresh, None, CASES)
