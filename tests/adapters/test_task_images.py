"""Images of tasks' Dockerfiles, built on the docker daemon, and the protocol in boxes made of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from adapters.harbor_folders import CALM, harbor_task

from envkit.adapters.harbor import HarborTask, install, read_task, verify
from envkit.adapters.harbor_protocol import solving
from envkit.adapters.task_images import TaskImages
from envkit.errors import InfraError, UsageError
from envkit.sandbox.docker import DockerBackend
from envkit.sandbox.docker.daemon import Daemon

MADE = "FROM envkit-sandbox\nRUN mkdir /opt/made && echo built >/opt/made/it\nWORKDIR /srv/it\nCOPY data .\n"
TEST = '[ "$(cat /opt/out)" = "built data" ]; echo $((1 - $?)) >/logs/verifier/reward.txt\n'
SOLVE = '#!/bin/bash\necho "$(cat /opt/made/it data)" | tr "\\n" " " | sed "s/ $//" >/opt/out\n'


@pytest.fixture
async def docker() -> AsyncIterator[DockerBackend]:
    backend = DockerBackend()
    if isinstance(why := await backend.available(), str):
        await backend.close()
        pytest.skip(f"the docker backend is not available: {why}")
    yield backend
    await backend.close()


@pytest.fixture
async def daemon(docker: DockerBackend) -> AsyncIterator[Daemon]:
    daemon = Daemon()
    yield daemon
    await daemon.close()


@pytest.fixture
async def images(docker: DockerBackend) -> AsyncIterator[TaskImages]:
    images = TaskImages()
    yield images
    await images.close()


def made(folder: Path, dockerfile: str = MADE, **files: str) -> HarborTask:
    """A task whose image has to be built; its data is its own, so that no other test has built it."""
    own = {"environment/Dockerfile": dockerfile, "environment/data": "data", "solution/solve.sh": SOLVE}
    return read_task(harbor_task(folder, CALM, test=TEST, **{**own, **files}))


async def test_a_built_image_serves_the_whole_protocol_as_root(
    docker: DockerBackend, images: TaskImages, daemon: Daemon, tmp_path: Path
) -> None:
    task = made(tmp_path / "it")
    assert task.sandbox is not None
    try:
        await images.ready(task)
        first = (await daemon.call("inspect_image", task.sandbox.image))["Id"]
        await images.ready(task)
        assert (await daemon.call("inspect_image", task.sandbox.image))["Id"] == first
        for solve, reward in ((False, 0.0), (True, 1.0)):
            async with await docker.start(task.sandbox) as box:
                await install(box, task)
                assert (await box.exec(["ls", "/srv/it", "/logs"])).stdout == (
                    b"/logs:\nagent\nartifacts\nverifier\n\n/srv/it:\ndata\n"
                )
                planted = "rm -rf /logs /tests; mkdir /r; echo 1 >/r/reward.txt; ln -s /r /logs; ln -s /r /tests"
                await box.exec(["bash", "-c", planted])
                for command in solving(task) if solve else ():
                    assert (await box.exec(["bash", "-c", command])).ok
                assert (await verify(box, task)).rewards == {"reward": reward}
                assert (await box.exec(["stat", "-c", "%U %F", "/tests", "/logs"])).stdout == b"root directory\n" * 2
    finally:
        await daemon.call("remove_image", task.sandbox.image, force=True)


@pytest.mark.parametrize(
    ("step", "said"),
    [("RUN echo some words; exit 3", "some words"), ("FROM no.such.registry.invalid/x:1", "no.such.registry")],
)
async def test_a_build_that_fails_says_how_and_leaves_no_name(
    images: TaskImages, daemon: Daemon, tmp_path: Path, step: str, said: str
) -> None:
    task = made(tmp_path / "it", f"FROM envkit-sandbox\n{step}\nWORKDIR /app\n")
    with pytest.raises(InfraError, match=said) as failed:
        await images.ready(task)
    assert "The image of it cannot be built from" in str(failed.value)
    assert task.sandbox is not None
    with pytest.raises(InfraError, match="No such image"):
        await daemon.call("inspect_image", task.sandbox.image)


async def test_a_build_that_takes_too_long_is_given_up(images: TaskImages, daemon: Daemon, tmp_path: Path) -> None:
    dockerfile = "FROM envkit-sandbox\nWORKDIR /app\nRUN for i in $(seq 600); do echo $i; sleep 0.1; done\n"
    task = made(tmp_path / "it", dockerfile).model_copy(update={"build_timeout": 2.0})
    with pytest.raises(InfraError, match="was not built in 2 s"):
        await images.ready(task)


async def test_a_given_image_gets_the_files_and_a_missing_one_is_named(docker: DockerBackend, tmp_path: Path) -> None:
    toml = CALM + 'docker_image = "envkit-sandbox"\nworkdir = "/srv/it"\n'
    task = read_task(harbor_task(tmp_path / "it", toml, **{"environment/data": "x"}))
    assert task.sandbox is not None
    async with await docker.start(task.sandbox) as box:
        await install(box, task)
        assert await box.read("/srv/it/data") == b"x"
        assert (await verify(box, task)).rewards == {"reward": 1.0}
    missing = task.sandbox.model_copy(update={"image": "nobody/has-this:1"})
    with pytest.raises(UsageError, match="docker pull nobody/has-this:1"):
        await docker.start(missing)
