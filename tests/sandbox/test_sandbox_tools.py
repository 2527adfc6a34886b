"""The ready tools over a box: what commands and code do wrong is text for the model, and the next call works."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from backends import usable

from envkit.errors import InfraError
from envkit.sandbox import Sandbox, SandboxSpec
from envkit.sandbox.tools import edit, python, read_file, shell


@pytest.fixture(params=["slot", "docker"])
async def box(request: pytest.FixtureRequest) -> AsyncIterator[Sandbox]:
    backend = await usable(request.param)
    async with await backend.start(SandboxSpec()) as box:
        yield box
    await backend.close()


async def test_a_shell_shows_both_streams_in_order_and_how_it_ended(box: Sandbox) -> None:
    run = shell(box)
    assert await run("echo one; echo two >&2; echo three") == "one\ntwo\nthree"
    assert await run("echo lost > kept.txt; false") == "[exit code 1]"
    assert await run("cat kept.txt; exit 3") == "lost\n[exit code 3]"
    assert await run("no-such-program") == "bash: line 2: no-such-program: command not found\n[exit code 127]"
    assert await run("printf '\\xff\\n'") == "�"


async def test_a_command_that_does_not_end_is_stopped_with_all_that_it_started(box: Sandbox) -> None:
    run = shell(box, timeout=1.0)
    said = await run("(while true; do sleep 0.1; date >> ticks; done) & echo begun; sleep 100")
    assert said == "begun\n[The command was stopped, with all that it had started: it did not finish in 1 s.]"
    before = await run("cat ticks")
    await asyncio.sleep(0.5)
    assert await run("cat ticks") == before


async def test_a_flood_is_stopped(box: Sandbox) -> None:
    said = await shell(box)("yes")
    assert said.endswith("[The command was stopped: it wrote more than is kept of its output.]")
    assert await shell(box)("echo still here") == "still here"


async def test_python_keeps_its_names(box: Sandbox) -> None:
    run = python(box)
    assert await run("import math\nx = 2") == ""
    assert await run("x += 1\nprint(x)\nmath.sqrt(x * 3)") == "3\n3.0"
    assert await run("def f():\n    return 1 / 0\n") == ""
    failed = await run("f()")
    assert failed.startswith('Traceback (most recent call last):\n  File "<cell 4>", line 1')
    assert "return 1 / 0" in failed
    assert failed.endswith("ZeroDivisionError: division by zero")
    assert "python_session" not in failed
    assert await run("x") == "3"


async def test_python_says_what_is_no_python_and_goes_on(box: Sandbox) -> None:
    run = python(box)
    assert (await run("1 +")).endswith("SyntaxError: invalid syntax")
    assert (await run("input()")).endswith("EOFError: EOF when reading a line")
    assert await run("import sys; sys.exit(0)") == ""
    assert await run("import sys; sys.exit('enough')") == "SystemExit: enough"
    assert await run("'\\ud800 é'") == "'\\ud800 é'"
    assert await run("print('\\ud800')") == "\\ud800"
    assert await run("import sys; sys.stdout = None") == ""
    assert await run("sys.stdout = sys.__stdout__; 1") == "1"


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import os; print('so far', flush=True); os._exit(3)", "ended the interpreter"),
        ("import os, signal; print('so far', flush=True); os.kill(os.getpid(), signal.SIGKILL)", "ended the interp"),
        ("print('so far', flush=True)\nwhile True: pass", "did not finish in 2 s"),
    ],
)
async def test_python_that_ends_or_hangs_is_begun_anew(box: Sandbox, code: str, why: str) -> None:
    run = python(box, timeout=2.0)
    await run("x = 1")
    said = await run(code)
    assert said.startswith("so far")
    assert why in said
    assert said.endswith("A new one was begun: variables and imports are gone.]")
    assert (await run("x")).endswith("NameError: name 'x' is not defined")


async def test_python_that_ends_between_two_calls_is_begun_anew(box: Sandbox) -> None:
    run = python(box)
    await run("import os, threading, time\nthreading.Timer(0.3, lambda: os._exit(0)).start()")
    await asyncio.sleep(1.5)
    assert (await run("print(1 + 1)")).startswith(("2", "[The code ended the interpreter"))
    assert await run("2 + 2") == "4"


async def test_the_middle_of_what_python_prints_is_left_out(box: Sandbox) -> None:
    said = await python(box)("print('begin')\nfor i in range(200_000): print(i)\nprint('end')")
    assert said.startswith("begin\n0\n1\n")
    assert said.endswith("199999\nend")
    assert "bytes left out ...]" in said
    assert len(said) < 300_000


async def test_what_looks_like_the_end_of_a_piece_is_text(box: Sandbox) -> None:
    assert await python(box)("print('\\n' + '0' * 32 + '\\n')\nprint('after')") == "\n" + "0" * 32 + "\n\nafter"


async def test_calls_that_come_together_take_turns(box: Sandbox) -> None:
    run = python(box)
    assert await asyncio.gather(*(run(f"print({i})") for i in range(5))) == ["0", "1", "2", "3", "4"]


async def test_a_call_that_is_cancelled_takes_nothing_from_the_next(box: Sandbox) -> None:
    run = python(box)
    await run("1")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await run("import time; time.sleep(2); print('late')")
    assert await run("print('mine')") == "mine"


async def test_edit_replaces_what_occurs_once(box: Sandbox) -> None:
    change = edit(box)
    assert await change("src/a.py", "", "x = 1\ny = 1\n") == "src/a.py was made."
    await shell(box)("chmod 755 src/a.py")
    assert await change("src/a.py", "x = 1", "x = 2") == "src/a.py was edited."
    assert await box.read("src/a.py") == b"x = 2\ny = 1\n"
    assert await shell(box)("stat -c %a src/a.py") == "755"
    for old, why in (("z", "does not occur"), (" = ", "occurs 2 times")):
        with pytest.raises(ValueError, match=why):
            await change("src/a.py", old, "")
    with pytest.raises(ValueError, match="there already"):
        await change("src/a.py", "", "gone")
    with pytest.raises(FileNotFoundError):
        await change("src/b.py", "x", "y")
    assert await box.read("src/a.py") == b"x = 2\ny = 1\n"


async def test_read_file_numbers_its_lines(box: Sandbox) -> None:
    await box.write("a.txt", "".join(f"line {i}\n" for i in range(1, 2501)).encode())
    read = read_file(box)
    assert await read("a.txt", 2, 3) == "     2  line 2\n     3  line 3"
    whole = (await read("a.txt")).splitlines()
    assert (whole[0], whole[1999], whole[-1]) == ("     1  line 1", "  2000  line 2000", "[500 more lines up to 2500]")
    with pytest.raises(ValueError, match="2500 lines"):
        await read("a.txt", 2501)
    await box.write("b.bin", b"\xff\xfe")
    with pytest.raises(ValueError, match="no text"):
        await read("b.bin")
    with pytest.raises(ValueError, match="not in the box"):
        await read("../../etc/passwd")


async def test_a_box_that_is_gone_is_no_mistake_of_the_model() -> None:
    backend = await usable("slot")
    box = await backend.start(SandboxSpec())
    run, code = shell(box), python(box)
    await code("1")
    await box.close()
    for tool in (run, code):
        with pytest.raises(InfraError):
            await tool("echo")
    await backend.close()
