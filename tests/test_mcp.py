"""MCP servers, real ones: over stdio and over HTTP, one for each block, and gone with it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp", reason="the extra envkit[mcp] is not installed")

from envkit import Environment, Limits, Rollout, Scripted, Task, run_rollout
from envkit.clients.scripted import call
from envkit.errors import InfraError
from envkit.mcp import mcp_tools
from envkit.tools import Outcome, Tool, use
from envkit.types import Image, ToolCall

COUNTER = [sys.executable, str(Path(__file__).parent / "mcp_servers" / "counter.py")]


def _comes_up(process: subprocess.Popen[bytes], port: int, within: float = 60) -> bool:
    """Whether the server takes connections in so many seconds."""
    end = time.monotonic() + within
    while process.poll() is None and time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return True
    return False


@contextmanager
def served() -> Iterator[str]:
    """The address of a server over HTTP."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryFile("w+") as complaint:
        process = subprocess.Popen([*COUNTER, str(port)], stdout=subprocess.DEVNULL, stderr=complaint)
        try:
            if not _comes_up(process, port):
                complaint.seek(0)
                pytest.fail(f"the MCP server took no connection ({process.poll()}): {complaint.read()[-2000:]}")
            yield f"http://127.0.0.1:{port}/mcp"
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server which all blocks share: each has a session of its own."""
    with served() as address:
        yield address


@pytest.fixture(params=["stdio", "http"])
def server(request: pytest.FixtureRequest) -> Any:
    return COUNTER if request.param == "stdio" else request.getfixturevalue("url")


@pytest.fixture(params=["stdio", "http"])
def mortal(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A server that nobody else needs."""
    if request.param == "stdio":
        yield COUNTER
    else:
        with served() as address:
            yield address


async def said(tools: list[Tool], name: str, arguments: str = "{}", **limits: Any) -> Outcome:
    return await use(ToolCall(id="1", name=name, arguments=arguments), tools, Limits(**limits), None)


async def test_the_servers_tools_are_offered_by_its_own_schema(server: Any) -> None:
    async with mcp_tools(server) as tools:
        assert [tool.name for tool in tools] == ["add", "draw", "fail", "flood", "hang", "die", "refuse"]
        assert tools[0].description == "Add to the count, and say it."
        assert tools[0].parameters["properties"]["number"]["type"] == "integer"
        assert tools[0].parameters["required"] == ["number"]


async def test_results_images_and_errors_come_back(server: Any) -> None:
    async with mcp_tools(server) as tools:
        assert (await said(tools, "add", '{"number": 2}')).content.isdigit()
        [image] = (await said(tools, "draw")).content
        assert isinstance(image, Image)
        assert image.data == b"png"
        failed = await said(tools, "fail")
        assert "the abacus is broken" in str(failed.error)
        assert len((await said(tools, "flood", tool_output=1000)).content) < 1100


async def test_wrong_arguments_are_refused_here(server: Any) -> None:
    async with mcp_tools(server) as tools:
        wrong = await said(tools, "add", '{"number": "two"}')
        assert wrong.error == "The arguments of 'add' do not fit: number: 'two' is not of type 'integer'."
        assert "'number' is a required property" in str((await said(tools, "add")).error)
        assert "not JSON" in str((await said(tools, "add", "{")).error)


async def test_what_a_server_holds_belongs_to_one_block() -> None:
    async def counted() -> str:
        async with mcp_tools(COUNTER) as tools:
            await said(tools, "add", '{"number": 1}')
            return str((await said(tools, "add", '{"number": 1}')).content)

    assert await asyncio.gather(*(counted() for _ in range(3))) == ["2", "2", "2"]


async def test_a_prefix_tells_two_servers_apart() -> None:
    async with mcp_tools(COUNTER, prefix="a_") as first, mcp_tools(COUNTER, prefix="b_") as second:
        assert (await said([*first, *second], "a_add", '{"number": 5}')).content == "5"
        assert (await said([*first, *second], "b_add", '{"number": 1}')).content == "1"


async def test_a_call_that_hangs_is_stopped_and_the_block_ends() -> None:
    async with mcp_tools(COUNTER) as tools:
        outcome = await said(tools, "hang", tool=0.5)
        assert outcome.error == "'hang' was stopped: it did not finish in 0.5 s."


async def test_what_a_living_server_says_of_a_call_goes_back_to_the_model_and_is_not_tried_again(server: Any) -> None:
    async with mcp_tools(server) as tools:
        refused = await said(tools, "refuse")
        assert refused.error == "Invalid params: no such city, try 1"
        assert (await said(tools, "refuse")).error == "Invalid params: no such city, try 2"


async def test_a_server_that_dies_is_a_failure_of_infrastructure(mortal: Any) -> None:
    async with mcp_tools(mortal) as tools:
        with pytest.raises(InfraError, match="tool 'die' was unavailable 3 times: the MCP server of 'die'"):
            await said(tools, "die")


@pytest.mark.parametrize(
    ("server", "why"),
    [
        (["no-such-program"], "no-such-program"),
        ([sys.executable, "-c", "import sys; sys.exit('no licence')"], "no licence"),
        ("http://127.0.0.1:9/mcp", "cannot be used"),
    ],
)
async def test_a_server_that_does_not_start_says_why(server: Any, why: str) -> None:
    with pytest.raises(InfraError, match=why):
        async with mcp_tools(server):
            pass


def children() -> set[str]:
    """The processes below this one that are such a server."""
    me = str(os.getpid())
    told = subprocess.run(["ps", "-ww", "-o", "pid=,args=", "--ppid", me], capture_output=True, text=True, check=True)
    return {line.split()[0] for line in told.stdout.splitlines() if "counter.py" in line}


class Counting(Environment[Task]):
    async def run(self, rollout: Rollout[Task]) -> None:
        async with mcp_tools(COUNTER) as tools:
            rollout.info["said"] = (await rollout.chat.run_tools(tools)).text


@pytest.mark.parametrize("cut", [1, None])
async def test_a_server_is_gone_with_its_rollout_also_when_a_limit_ends_it(cut: int | None) -> None:
    before = children()
    model = Scripted([call("add", number=2), call("add", number=3), "Five."])
    env = Counting([], limits=Limits(max_turns=cut))
    trace = await run_rollout(env, Task(id="1", prompt="2 + 3?"), model)
    assert trace.error is None, trace.error
    assert (trace.outcome, trace.tools["add"].calls) == (("truncated", 1) if cut else ("completed", 2))
    assert children() == before


async def test_a_server_is_gone_when_its_rollout_is_cancelled() -> None:
    before = children()

    offered = asyncio.Event()

    class Waiting(Environment[Task]):
        async def run(self, rollout: Rollout[Task]) -> None:
            async with mcp_tools(COUNTER) as tools:
                offered.set()
                await rollout.chat.run_tools(tools)

    task = asyncio.ensure_future(run_rollout(Waiting([]), Task(id="1", prompt="?"), Scripted([call("hang")])))
    ready = asyncio.ensure_future(offered.wait())
    await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
    assert not task.done(), task.result().error
    assert children() > before
    await asyncio.sleep(0.5)  # for the call to be under way
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children() == before
