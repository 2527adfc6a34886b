"""The pool: a box is never lost, never handed to two, never used twice; and nobody waits for ever."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from folders import Folders, Unclosable

from envkit.errors import InfraError, UsageError
from envkit.sandbox import Sandbox, SandboxSpec, owners, pool
from envkit.sandbox.pool import BOXES_EACH, Boxes

SPEC = SandboxSpec()


async def test_a_box_is_its_users_alone_and_gone_afterwards() -> None:
    backend = Folders()
    boxes = Boxes(backend)
    place = boxes.place(grading=False)
    first, second = await boxes.take(SPEC, place), await boxes.take(SPEC, place)
    assert first is not second
    await first.write("mine", b"1")
    await boxes.give(first)
    third = await boxes.take(SPEC, place)
    with pytest.raises(FileNotFoundError):
        await third.read("mine")
    assert (await third.python("print(6 * 7)")).stdout == b"42\n"
    assert len(backend.left()) == 2
    await boxes.give(first)  # once more does nothing
    await boxes.close()
    assert (backend.left(), backend.swept, backend.ended) == ([], 1, 0)


async def test_what_killed_runs_left_with_other_backends_is_swept_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    dead = owners.Owner(ended.pid, 1, owners.current().boot, owners.current().namespace)
    ended.wait()
    image = tmp_path / "image"
    image.mkdir()
    owners.write(owners.Record(dead, "slot-1", {"folders": [str(image)]}))
    owners.write(owners.Record(owners.current(), "slot-2", {"folders": [str(tmp_path)]}))
    boxes = Boxes(Folders())
    await boxes.ready()
    await boxes.close()
    assert not image.exists()
    assert [record.owner for record in owners.records("slot")] == [owners.current()]


async def test_a_backend_that_cannot_sweep_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sweep(self: Folders) -> int:
        raise ConnectionError("nobody answers")

    monkeypatch.setattr(Folders, "sweep", sweep)
    with pytest.raises(InfraError, match=r"could not sweep what was left: ConnectionError\('nobody answers'\)"):
        await Boxes(Folders()).ready()


async def test_places_bound_the_rollouts_that_have_boxes() -> None:
    backend = Folders(starts_in=lambda: 0.01)
    boxes = Boxes(backend, agents=2, gradings=3)

    async def rollout(grading: bool) -> None:
        box = await boxes.take(SPEC, boxes.place(grading=grading))
        await asyncio.sleep(0.01)
        await boxes.give(box)

    await asyncio.gather(*(rollout(False) for _ in range(12)))
    assert (backend.started, backend.most) == (12, 2)
    backend.most = 0
    await asyncio.gather(*(rollout(True) for _ in range(12)))
    assert (backend.started, backend.most) == (24, 3)
    await boxes.close()


async def test_one_place_holds_a_few_boxes_and_more_wait_for_its_own() -> None:
    backend = Folders()
    boxes = Boxes(backend, agents=1)
    place = boxes.place(grading=False)
    held = [await boxes.take(SPEC, place) for _ in range(BOXES_EACH)]
    one_more = asyncio.create_task(boxes.take(SPEC, place))
    await asyncio.sleep(0.1)
    assert not one_more.done()
    await boxes.give(held.pop())
    held.append(await one_more)
    assert backend.most == BOXES_EACH
    other = asyncio.create_task(boxes.take(SPEC, boxes.place(grading=False)))
    for box in held:
        assert not other.done()
        await boxes.give(box)
    assert await other in backend.live
    await boxes.close()


async def test_two_first_boxes_at_once_take_one_place() -> None:
    boxes = Boxes(Folders(), agents=1)
    place = boxes.place(grading=False)
    async with asyncio.timeout(20):
        first, second = await asyncio.gather(boxes.take(SPEC, place), boxes.take(SPEC, place))
    assert first is not second
    assert boxes.has(first)
    assert boxes.has(second)
    await boxes.close()


async def test_judges_that_need_two_boxes_never_wait_for_each_other() -> None:
    backend = Folders()
    boxes = Boxes(backend, agents=1, gradings=2)
    judged = 0

    async def judge() -> None:
        nonlocal judged
        place = boxes.place(grading=True)
        first = await boxes.take(SPEC, place)
        await asyncio.sleep(0)
        second = await boxes.take(SPEC, place)
        await boxes.give(second)
        await boxes.give(first)
        judged += 1

    agents = await boxes.take(SPEC, boxes.place(grading=False))  # an agent that has its box waits for nothing of theirs
    async with asyncio.timeout(30):
        await asyncio.gather(*(judge() for _ in range(10)))
    assert judged == 10
    assert set(backend.live) == {agents}
    await boxes.give(agents)
    await boxes.close()


@pytest.mark.parametrize("seed", range(6))
async def test_cancelled_anywhere_nothing_is_lost(seed: int) -> None:
    rng = random.Random(seed)
    backend = Folders(starts_in=lambda: rng.random() * 0.02, closes_in=lambda: rng.random() * 0.01)
    boxes = Boxes(backend, agents=3, gradings=2, warm=seed % 3, per_second=None if seed % 2 else 300)
    specs = [SPEC, SandboxSpec(env={"A": "1"})]
    users: dict[Sandbox, int] = {}

    async def rollout(number: int) -> None:
        place = boxes.place(grading=rng.random() < 0.5)
        held: list[Sandbox] = []
        try:
            for _ in range(rng.randint(1, 3)):
                if rng.random() < 0.1:
                    backend.broken.append(InfraError("no more disk"))
                try:
                    box = await boxes.take(rng.choice(specs), place)
                except InfraError:
                    continue
                assert users.setdefault(box, number) == number
                held.append(box)
                assert boxes.has(box)
                await asyncio.sleep(rng.random() * 0.02)
        finally:
            if giving := [asyncio.create_task(boxes.give(box)) for box in held]:
                await asyncio.wait(giving)  # which is cancelled too, now and then

    async def cancelled(number: int) -> None:
        task = asyncio.create_task(rollout(number))
        await asyncio.sleep(rng.random() * 0.15)
        if rng.random() < 0.7:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async with asyncio.timeout(60):
        await asyncio.gather(*(cancelled(number) for number in range(40)))
        backend.broken.clear()
        for grading, count in ((False, 3), (True, 2)):  # every place has come back
            places = [boxes.place(grading=grading) for _ in range(count)]
            for box in [await boxes.take(SPEC, place) for place in places]:
                await boxes.give(box)
        await boxes.close()
    assert (backend.live, backend.left()) == (set(), [])


async def test_starts_that_fail_give_their_place_back() -> None:
    backend = Folders()
    backend.broken = [InfraError("the daemon is down"), OSError("disk full")]
    boxes = Boxes(backend, agents=1)
    with pytest.raises(InfraError, match=r"could not start a box: OSError.*disk full"):
        await boxes.take(SPEC, boxes.place(grading=False))
    with pytest.raises(InfraError, match="the daemon is down"):
        await boxes.take(SPEC, boxes.place(grading=False))
    assert await boxes.take(SPEC, boxes.place(grading=False)) in backend.live
    await boxes.close()
    assert backend.left() == []


async def test_a_start_that_takes_too_long_is_given_up_and_its_box_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "START_SECONDS", 0.05)
    backend = Folders(starts_in=lambda: 0.3)
    boxes = Boxes(backend, agents=1)
    with pytest.raises(InfraError, match="did not start a box"):
        await boxes.take(SPEC, boxes.place(grading=False))
    backend.starts_in = lambda: 0.0
    again = await boxes.take(SPEC, boxes.place(grading=False))  # its place comes back with it
    await boxes.give(again)
    assert (backend.started, backend.live) == (2, set())
    await boxes.close()


async def test_a_box_that_does_not_close_says_so_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "CLOSE_SECONDS", 0.05)
    backend = Folders(closes_in=lambda: 0.4)
    boxes = Boxes(backend, agents=1)
    with pytest.raises(InfraError, match=r"not gone within 0\.05 s"):
        await boxes.give(await boxes.take(SPEC, boxes.place(grading=False)))
    assert await boxes.take(SPEC, boxes.place(grading=False)) in backend.live
    await boxes.close()
    assert backend.left() == []


async def test_a_box_that_cannot_be_closed_does_not_hold_its_place() -> None:
    boxes = Boxes(Unclosable(), agents=1)
    for _ in range(2):
        with pytest.raises(InfraError, match="the daemon went away"):
            await boxes.give(await boxes.take(SPEC, boxes.place(grading=False)))
    await boxes.close()


async def test_a_giver_that_is_cancelled_leaves_no_box() -> None:
    backend = Folders(closes_in=lambda: 0.2)
    boxes = Boxes(backend)
    giving = asyncio.create_task(boxes.give(await boxes.take(SPEC, boxes.place(grading=False))))
    await asyncio.sleep(0.05)
    giving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await giving
    assert (backend.live, backend.left()) == (set(), [])
    await boxes.close()


async def test_the_lifetime_ends_a_box() -> None:
    backend = Folders()
    boxes = Boxes(backend)
    box = await boxes.take(SandboxSpec(lifetime=0.3), boxes.place(grading=False))
    assert boxes.has(box)
    while backend.live:
        await asyncio.sleep(0.05)
    assert not boxes.has(box)
    await boxes.give(box)
    await boxes.close()


async def test_warm_boxes_are_new_to_whoever_gets_them() -> None:
    backend = Folders()
    boxes = Boxes(backend, agents=4, warm=2)
    seen: set[Sandbox] = set()
    for number in range(6):
        box = await boxes.take(SPEC, boxes.place(grading=False))
        assert box not in seen
        seen.add(box)
        assert (await box.exec(["ls"])).stdout == b""
        await box.write(f"file-{number}", b"")
        await boxes.give(box)
    while len(backend.live) < 2:  # both are refilled in the background
        await asyncio.sleep(0.01)
    ready = set(backend.live)
    assert await boxes.take(SPEC, boxes.place(grading=False)) in ready
    assert await boxes.take(SandboxSpec(env={"B": "1"}), boxes.place(grading=False)) not in ready
    await boxes.close()
    assert backend.left() == []


async def test_starts_are_spread_over_time() -> None:
    boxes = Boxes(Folders(), per_second=10)
    begun = time.monotonic()
    await asyncio.gather(*(boxes.take(SPEC, boxes.place(grading=False)) for _ in range(4)))
    assert time.monotonic() - begun >= 0.3
    await boxes.close()


async def test_closing_ends_what_is_in_use_and_the_pool_can_be_used_again() -> None:
    backend = Folders(starts_in=lambda: 0.1)
    boxes = Boxes(backend, agents=2, warm=1)
    box = await boxes.take(SPEC, boxes.place(grading=False))
    running = asyncio.create_task(box.exec(["sleep", "60"]))
    starting = asyncio.create_task(boxes.take(SPEC, boxes.place(grading=False)))
    waiting = asyncio.create_task(boxes.take(SPEC, boxes.place(grading=False)))
    await asyncio.sleep(0.05)
    await boxes.close()
    await asyncio.gather(running, starting, return_exceptions=True)
    with pytest.raises(InfraError, match="being closed"):
        await waiting
    assert (backend.live, backend.left()) == (set(), [])
    again = await boxes.take(SPEC, boxes.place(grading=False))
    assert (await again.exec(["echo", "on"])).stdout == b"on\n"
    await boxes.close()
    assert (backend.swept, backend.left()) == (2, [])


async def test_the_first_use_sweeps_what_a_killed_process_left(tmp_path: Path) -> None:
    program = tmp_path / "killed.py"
    program.write_text(
        "import asyncio\n"
        "from envkit.sandbox import SandboxSpec\n"
        "from envkit.sandbox.pool import Boxes\n"
        "from envkit.sandbox.unsafe import UnsafeBackend\n"
        "async def main():\n"
        "    boxes = Boxes(UnsafeBackend(unsafe=True))\n"
        "    box = await boxes.take(SandboxSpec(), boxes.place(grading=False))\n"
        "    await box.spawn(['sleep', '77'])\n"
        "    print(box._root, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    killed = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    root = Path(killed.stdout.readline().strip())
    assert root.is_dir()
    killed.kill()
    killed.communicate()
    boxes = Boxes(Folders())
    await boxes.ready()
    assert not root.exists()
    await boxes.close()


async def test_a_backend_that_is_not_available_says_why() -> None:
    class Elsewhere(Folders):
        async def available(self) -> str:
            return "The moon is not up: wait for it."

    with pytest.raises(UsageError, match="cannot be used here: The moon is not up"):
        await Boxes(Elsewhere()).take(SPEC, Boxes(Elsewhere()).place(grading=False))


async def test_what_is_recorded_of_its_boxes() -> None:
    boxes = Boxes(Folders())
    about = await boxes.about(SandboxSpec(env={"A": "1"}))
    assert about["backend"] == "unsafe"
    assert about["spec"]["env"] == {"A": "1"}
    assert about["interpreter"].startswith("CPython 3.")
    await boxes.close()
