"""The box of a task that came with a Dockerfile: a given image, one to be built, or just its files in a box without."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from envkit.adapters.dockerfile import Recipe
from envkit.adapters.harbor_config import Unsupported
from envkit.adapters.task_files import digest
from envkit.sandbox.base import ExecLimits, GiB, MiB, SandboxSpec

Build = Literal["needed", "always"]

WORKDIR = "/app"
"""Where a task's files lie that names no place."""

AGENT_SECONDS = 3600.0
"""For the agent of a task that gives it no time limit."""

SPARE_SECONDS = 900.0
"""Of a box's lifetime, beside what the agent and the verifier have: for copying files and waiting for the model."""

LIMITS = ExecLimits(memory=2 * GiB, disk=GiB, files=100_000, pids=256, output=MiB)
"""Of a box, where the task does not say."""

SYSTEM = frozenset("/bin /boot /dev /etc /lib /lib32 /lib64 /libx32 /proc /run /sbin /sys /tmp /usr /var".split())
"""Where a box without an image has its system."""


def sandbox_of(
    recipe: Recipe, context: Path, *, image: str | None, build: Build, workdir: str | None, folders: tuple[str, ...]
) -> tuple[SandboxSpec, bool]:
    """(what the box is made of, whether an image has to be built for it). Limits, network and time are not in it yet.

    Without an image the box has the backend's own programs, and the files that the recipe copies."""
    where = workdir or recipe.workdir
    if image is None and build == "needed" and recipe.copies is not None:
        places = [to for _, to in recipe.copies]
        if (beside := _beside(where or WORKDIR, places, folders)) is not None:
            own = tuple(sorted({*folders, *beside}))
            return SandboxSpec(workdir=where or WORKDIR, folders=own, env=recipe.env), False
    if where is None:
        raise Unsupported(
            f"{context}: neither the task's workdir nor a WORKDIR of its Dockerfile says where programs start; taking "
            "it from the image is not supported."
        )
    if image is None and recipe.beyond is not None:
        raise Unsupported(f"{context / 'Dockerfile'}: {recipe.beyond[:100]!r} is not supported: it needs BuildKit.")
    if image is None:
        name = f"envkit-task:{hashlib.sha256(digest(context).encode()).hexdigest()[:16]}"
        return SandboxSpec(image=name, workdir=where, root=True), True
    return SandboxSpec(image=image, workdir=where, root=True), False


def _beside(workdir: str, places: list[str], folders: tuple[str, ...]) -> set[str] | None:
    """The folders at the root that files are copied to beside the workdir; None where a box cannot have all of them."""
    outside = [place for place in places if not place.startswith(f"{workdir}/")]
    beside = {_top(place) for place in outside}
    if any(place.count("/") < 2 for place in outside) or _top(workdir) in {"/", *SYSTEM, *folders, *beside}:
        return None
    return None if beside & {*SYSTEM, *folders} else beside


def _top(place: str) -> str:
    return "/" + place.split("/")[1]


def limited(spec: SandboxSpec, *, agent: float | None, verifier: float, limits: ExecLimits) -> SandboxSpec:
    """The spec with room and time for the whole episode; a program of the agent may use all of its time."""
    seconds = agent or AGENT_SECONDS
    bounds = limits.model_copy(update={"wall": seconds, "cpu": seconds})
    return spec.model_copy(update={"limits": bounds, "lifetime": seconds + verifier + SPARE_SECONDS})
