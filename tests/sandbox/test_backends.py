"""Backends by name and by order, registered as any distribution would."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from envkit.errors import UsageError
from envkit.sandbox import Capabilities, SandboxSpec, find
from envkit.sandbox.doctor import examine
from envkit.sandbox.pool import Boxes
from envkit.sandbox.unsafe import UnsafeBackend

MODULE = """
from envkit.sandbox.doctor import examine
from envkit.sandbox.pool import Boxes
from envkit.sandbox.unsafe import UnsafeBackend
from envkit.sandbox import Capabilities

class Remote(UnsafeBackend):
    name = "remote"
    def __init__(self): super().__init__(unsafe=True)
    async def available(self): return Capabilities(root=True)

class NotOne: pass

class Mute(Remote):
    name = "mute"
    async def available(self): return None

class Dead(Remote):
    name = "dead"
    async def available(self): raise ConnectionError("nobody answers")
    async def close(self): raise ConnectionError("nobody answers")

class Dropping(Remote):
    name = "dropping"
    async def available(self): return Capabilities()
    async def start(self, spec): raise ConnectionError("it hung up")

class Unmade(Remote):
    def __init__(self): raise RuntimeError("no key")
"""


POINTS = {
    "remote": "remote_boxes:Remote",
    "broken": "remote_boxes_missing:Backend",
    "not-one": "remote_boxes:NotOne",
    "nowhere": "remote_boxes:Nowhere",
    "mute": "remote_boxes:Mute",
    "dead": "remote_boxes:Dead",
    "dropping": "remote_boxes:Dropping",
    "unmade": "remote_boxes:Unmade",
}


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution that registers backends, one of which works."""
    (tmp_path / "remote_boxes.py").write_text(MODULE)
    folder = tmp_path / "remote_boxes-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: remote-boxes\nVersion: 1.0\n")
    points = "".join(f"{name} = {where}\n" for name, where in POINTS.items())
    (folder / "entry_points.txt").write_text(f"[{find.GROUP}]\n{points}")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "remote_boxes", raising=False)


@pytest.mark.usefixtures("remote")
def test_the_cheapest_come_first_and_the_unsafe_one_last() -> None:
    assert find.names() == ["slot", "docker", *sorted(POINTS), "unsafe"]


def test_by_name() -> None:
    assert find.backend("slot").name == "slot"
    assert find.backend("docker").name == "docker"
    assert isinstance(find.backend("unsafe", unsafe=True), UnsafeBackend)


def test_the_unsafe_one_is_never_had_by_its_name_alone() -> None:
    with pytest.raises(UsageError, match="--unsafe-sandbox"):
        find.backend("unsafe")


def test_an_unknown_name() -> None:
    with pytest.raises(UsageError, match=r"named 'slto'\. Did you mean 'slot'\? Installed: slot, docker, .*unsafe"):
        find.backend("slto")


@pytest.mark.usefixtures("remote")
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("broken", "cannot be imported"),
        ("not-one", "is no envkit"),
        ("nowhere", "cannot be imported: AttributeError"),
        ("unmade", "cannot be made: RuntimeError: no key"),
    ],
)
def test_what_somebody_registered_wrongly(name: str, why: str) -> None:
    with pytest.raises(UsageError, match=f"'{name}' .*{why}"):
        find.backend(name)


async def test_the_default_is_the_first_that_works_here() -> None:
    for name in find.names():
        backend = find.backend(name, unsafe=name == find.UNSAFE)
        works = isinstance(found := await backend.available(), Capabilities) and found.isolated
        await backend.close()
        if works:
            chosen = await find.choose()
            await chosen.close()
            assert chosen.name == name
            return
    with pytest.raises(UsageError, match="no backend can be used here"):
        await find.choose()


@pytest.fixture
def no_docker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")


@pytest.mark.usefixtures("remote", "no_docker")
async def test_the_default_can_hold_to_the_spec() -> None:
    chosen = await find.choose(SandboxSpec(root=True))
    assert chosen.name == "remote"


@pytest.mark.usefixtures("remote")
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nowhere", "'nowhere' .* cannot be imported"),
        ("mute", "'mute' says neither what it can do here nor why"),
        ("dead", "'dead' broke.*nobody answers"),
        ("dropping", "'dropping' broke: .*it hung up"),
    ],
)
async def test_one_that_breaks_is_a_finding(name: str, why: str) -> None:
    found = await examine(name)
    assert found.capabilities is None
    assert re.search(why, found.why or "")


@pytest.mark.usefixtures("remote", "no_docker")
async def test_one_that_breaks_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "ORDER", ("dead", "mute", "nowhere"))
    assert (await find.choose(SandboxSpec(root=True))).name == "remote"


@pytest.mark.usefixtures("remote")
async def test_a_pool_says_which_one_broke() -> None:
    with pytest.raises(UsageError, match="'dead' broke"):
        await Boxes("dead").ready()


@pytest.mark.usefixtures("no_docker")
async def test_where_none_can_be_used_each_one_says_why() -> None:
    with pytest.raises(UsageError) as refused:
        await find.choose(SandboxSpec(root=True))
    message = str(refused.value)
    assert message.startswith("This needs a sandbox, and no backend can be used here:\n  slot: ")
    assert "\n  docker: " in message
    assert "unsafe:" not in message
    assert "envkit sandbox doctor" in message


def test_a_variant_is_asked_for_by_its_word() -> None:
    assert find.backend("docker:runsc").name == "docker:runsc"
    with pytest.raises(UsageError, match="'slot' has no variants, and slot:fast is asked for"):
        find.backend("slot:fast")
    with pytest.raises(UsageError, match="--unsafe-sandbox"):
        find.backend("unsafe:")
    with pytest.raises(UsageError, match="Did you mean 'docker'"):
        find.backend("dokcer:runsc")


async def test_a_runtime_that_the_daemon_does_not_have_is_named() -> None:
    backend = find.backend("docker:no-such-runtime")
    why = await backend.available()
    await backend.close()
    assert isinstance(why, str)
    if "daemon answers" not in why and "no image" not in why:
        assert "no runtime 'no-such-runtime' (it has " in why
        assert "/etc/docker/daemon.json" in why
