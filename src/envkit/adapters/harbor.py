"""Tasks in Harbor's format (and in terminal-bench's older one), as tasks of envkit: read, put into a box, and judged.

    for task in harbor_tasks("path/to/tasks"):          # one task's folder, or a folder of them
        await install(box, task)                         # before the agent works in the box
        graded = await verify(box, task)                 # after it: Graded(rewards={"reward": 1.0}, output="...")

What of the format envkit does not do is refused by name, as `Unsupported`.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from envkit.adapters.dockerfile import Recipe, read_dockerfile
from envkit.adapters.harbor_config import TaskToml, Unsupported, read_toml
from envkit.adapters.harbor_protocol import Graded, install, verify
from envkit.adapters.task_box import LIMITS, Build, limited, sandbox_of
from envkit.adapters.task_files import digest
from envkit.dataset import Dataset
from envkit.errors import UsageError
from envkit.sandbox.base import Allow, MiB, Network, SandboxSpec
from envkit.task import Task

__all__ = ["Graded", "HarborTask", "Unsupported", "harbor_tasks", "install", "read_task", "verify"]

FOLDERS = ("/logs", "/solution", "/tests")
"""What the format's scripts have written into them."""


class HarborTask(Task):
    """A task's folder. `directory` is where it lies, absolute; `digest` the SHA-256 of its files, which the task's
    hash follows instead, so that it is the same task on every machine."""

    directory: str
    digest: str
    form: Literal["harbor", "terminal-bench"] = "harbor"
    builds: bool = False
    """Whether the sandbox's image is one that has to be built from the task's Dockerfile."""
    agent_timeout: float | None = None
    verifier_timeout: float = 600.0
    build_timeout: float = 600.0
    verifier_env: Mapping[str, str] = Field(default_factory=dict[str, str])
    """As it is written: "${NAME}" and "${NAME:-default}" are the running machine's, which no record keeps."""
    solution_env: Mapping[str, str] = Field(default_factory=dict[str, str])
    metadata: Mapping[str, Any] = Field(default_factory=dict[str, Any])

    @property
    def context(self) -> Path:
        """The folder with the Dockerfile, and what it copies."""
        folder = Path(self.directory)
        return folder / "environment" if self.form == "harbor" else folder

    @cached_property
    def hash(self) -> str:
        """As any task's, but for the place of its folder."""
        return Task.hash.func(self.model_copy(update={"directory": ""}))


def read_task(directory: str | Path, *, build: Build = "needed") -> HarborTask:
    """The task in this folder; UsageError that names the file and the key where it is none.

    `build` "always" has an image built of every Dockerfile, also of a plain one whose files a box can just be given.
    """
    folder = Path(directory).resolve()
    if (folder / "task.toml").is_file():
        return _harbor(folder, build)
    if (folder / "task.yaml").is_file():
        from envkit.adapters.terminal_bench import read_terminal_bench

        return read_terminal_bench(folder, build)
    raise UsageError(f"{folder} is no task: it has neither a task.toml (Harbor) nor a task.yaml (terminal-bench).")


def harbor_tasks(
    path: str | Path, *, build: Build = "needed", skipped: Callable[[str, Unsupported], None] | None = None
) -> Dataset[HarborTask]:
    """The task in this folder, or the tasks in the folders below it, read once, by name.

    `skipped` is told of each that is not supported, which is then left out; else the first of them is raised.
    """
    root = Path(path).expanduser().resolve()
    if not root.is_dir():
        raise UsageError(f"There is no folder {str(path)!r}: name one task's folder, or a folder of such.")
    tasks: dict[str, HarborTask] = {}
    folders = [root] if _is_task(root) else sorted(folder for folder in root.iterdir() if _is_task(folder))
    for folder in folders:
        try:
            task = read_task(folder, build=build)
        except Unsupported as error:
            if skipped is None:
                raise
            skipped(folder.name, error)
            continue
        if (other := tasks.setdefault(task.id, task)) is not task:
            raise UsageError(f"{task.directory} and {other.directory} are both named {task.id!r}.")
    if not folders:
        raise UsageError(f"{root} has no tasks: neither it nor a folder in it has a task.toml or task.yaml.")
    content = hashlib.sha256("".join(task.hash for task in tasks.values()).encode()).hexdigest()[:16]
    return Dataset(list(tasks.values()), about={"format": "harbor", "folder": root.name, "fingerprint": content})


def _is_task(folder: Path) -> bool:
    return (folder / "task.toml").is_file() or (folder / "task.yaml").is_file()


def _harbor(folder: Path, build: Build) -> HarborTask:
    toml = read_toml(folder / "task.toml")
    _refuse_files(folder)
    spec, builds = _sandbox(folder, toml, build)
    environment, verifier = toml.environment, toml.verifier
    return HarborTask(
        id=folder.name if toml.task is None else toml.task.name,
        prompt=_instruction(folder / "instruction.md"),
        sandbox=spec,
        directory=str(folder),
        digest=digest(folder),
        builds=builds,
        agent_timeout=toml.agent.timeout_sec,
        verifier_timeout=verifier.timeout_sec,
        build_timeout=environment.build_timeout_sec,
        verifier_env=verifier.env,
        solution_env=toml.solution.env,
        metadata=toml.metadata,
    )


def _sandbox(folder: Path, toml: TaskToml, build: Build) -> tuple[SandboxSpec, bool]:
    wants, where = toml.environment, folder / "environment"
    written = where / "Dockerfile"
    if written.is_file():
        recipe = read_dockerfile(written)
    else:
        recipe, build = Recipe(None, copies=()), "needed"
    spec, builds = sandbox_of(
        recipe, where, image=wants.docker_image, build=build, workdir=wants.workdir, folders=FOLDERS
    )
    for name, phase in (("agent", toml.agent), ("verifier", toml.verifier)):
        if phase.user is not None and not (spec.root and phase.user in ("root", "0", 0)):
            raise Unsupported(f"{folder / 'task.toml'}: {name}.user = {phase.user!r} is not supported.")
    if wants.cpus not in (None, 1):
        warnings.warn(CORES, stacklevel=2)
    limits = LIMITS.model_copy(
        update={
            "memory": (wants.memory_mb or LIMITS.memory // MiB) * MiB,
            "disk": (wants.storage_mb or LIMITS.disk // MiB) * MiB,
        }
    )
    spec = limited(spec, agent=toml.agent.timeout_sec, verifier=toml.verifier.timeout_sec, limits=limits)
    return spec.model_copy(update={"env": {**spec.env, **wants.env}, "network": _network(folder, toml)}), builds


def _network(folder: Path, toml: TaskToml) -> Network:
    if toml.network == "public":
        return "open"
    if toml.network == "no-network":
        return "none"
    hosts = toml.environment.allowed_hosts or ()
    if patterns := [host for host in hosts if "*" in host or "/" in host]:
        raise Unsupported(f"{folder / 'task.toml'}: environment.allowed_hosts: {patterns[0]!r} is not supported.")
    return Allow(hosts=tuple(hosts))


def _refuse_files(folder: Path) -> None:
    """UsageError where a file is missing that each task has, Unsupported where one asks for more than envkit does."""
    for name in ("environment/docker-compose.yaml", "tests/.harborignore", ".harborignore", "trajectory.json"):
        if (folder / name).exists():
            raise Unsupported(f"{folder / name} is not supported.")
    for name in ("instruction.md", "tests/test.sh"):
        if not (folder / name).is_file():
            raise UsageError(f"{folder} has a task.toml and no {name}.")


def _instruction(path: Path) -> str:
    """The text, without the canary lines at its beginning, which are for those who collect training data."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no text: {error}") from error
    while lines and _CANARY.fullmatch(lines[0].strip()):
        del lines[0]
    text = "\n".join(lines).strip("\n")
    if not text.strip():
        raise UsageError(f"{path} is empty.")
    return text


CORES = (
    "environment.cpus of a task.toml is not held to: a box of docker has one core, a slot all of this machine's. A "
    "task that counts on more of them may run out of time."
)

_CANARY = re.compile(r"<!--.*canary.*-->|#.*canary.*", re.IGNORECASE)
