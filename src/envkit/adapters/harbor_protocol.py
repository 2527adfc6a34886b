"""The protocol of a task in a box: its files put there, its solution, and its verifier's word on what was made of it.

The verifier runs where the agent has worked: that is the format's own way, and a verifier there can be deceived. What
the protocol leaves open is closed: no process of the agent is left, what it put where the tests and the reward go is
gone before they come, and the verifier begins with the box's first environment. What stays open is what the agent could
change for good: every program of a box with an image, the task's own folders in one without.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
import os
import posixpath
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from envkit.adapters.dockerfile import read_dockerfile
from envkit.adapters.task_files import archive, files
from envkit.errors import InfraError, UsageError
from envkit.sandbox.base import ExecResult, MiB, Sandbox
from envkit.types import Record

if TYPE_CHECKING:
    from envkit.adapters.harbor import HarborTask

TESTS, VERIFIER, SOLUTION = "/tests", "/logs/verifier", "/solution"
LOGS = ("/logs/agent", VERIFIER, "/logs/artifacts")
OUTPUT = f"{VERIFIER}/test-stdout.txt"

REWARD_BYTES = 64 << 10
"""Of a reward file: far more than any has."""

KEPT = 4000
"""Characters of the verifier's output that are kept, from its end."""

OUTPUT_BYTES = 16 * MiB
"""Of the verifier's output that is read, where the verdict has to be read out of it."""

SCRIPT_SECONDS = 60.0
"""For our own scripts in a box that its programs may have slowed down."""

NO_SHELL = 126
"""The exit code that says that a box has no bash to start the tests with."""

PIECE = 60_000
"""Characters of an archive in one command: the kernel allows 128 KiB, and a model's call is shown to people."""

PREPARE = """
mkdir -p "$@" || exit 1
[ ! -w /etc/apt/apt.conf.d ] || echo 'APT::Sandbox::User "root";' >/etc/apt/apt.conf.d/99-one-user
"""
"""Root of a box cannot become another user, as apt otherwise would."""

EMPTY = """
for place in "$@"; do
    while [ "${above:=/}" != "$place" ]; do
        rest=${place#"${above%/}"/}; above=${above%/}/${rest%%/*}
        if [ -L "$above" ] || { [ -e "$above" ] && [ ! -d "$above" ]; }; then rm -f -- "$above"; fi
        [ -d "$above" ] || mkdir -- "$above" || exit 1
    done
    above=
    chmod -R u+rwx -- "$place" 2>/dev/null
    rm -rf -- "$place"/* "$place"/.[!.]* "$place"/..?*
    [ -z "$(ls -A -- "$place")" ] || exit 1
done
"""
"""Makes each place an empty folder of its own; a link anywhere on the way to it is cut."""

_TEMPLATE = re.compile(r"\$\{([^}:]+)(?::-(.*))?\}", re.DOTALL)


class Graded(Record):
    """What a verifier said: `rewards` by their names ("reward" where it gave but one number), finite and at least one;
    the end of what it wrote."""

    rewards: dict[str, float]
    output: str = ""


async def install(box: Sandbox, task: HarborTask) -> None:
    """Put the task's files into its box, as they are before the agent comes. UsageError where this machine lacks a
    variable that the verifier will need."""
    from_host(task, task.verifier_env)
    await _script(box, PREPARE, LOGS, otherwise="The folders for logs cannot be made")
    for place, contents in _placed(task).items():
        await box.upload(archive(contents), place)


async def verify(box: Sandbox, task: HarborTask) -> Graded:
    """Run the task's tests in the box where the agent has worked. InfraError where they give no finite reward: that is
    the verifier's failure, never a 0. Tests in terminal-bench's form give one wherever they could run to their end."""
    env = from_host(task, task.verifier_env)
    await _script(box, EMPTY, (TESTS, VERIFIER), otherwise="The places of tests and reward cannot be cleared")
    folder = Path(task.directory)
    tests = list(files(folder / "tests", within=folder).items()) if (folder / "tests").is_dir() else []
    command = f"chmod +x {TESTS}/test.sh; {TESTS}/test.sh"
    if task.form == "terminal-bench":
        tests.append(("run-tests.sh", folder / "run-tests.sh"))
        command = f"command -v bash >/dev/null || exit {NO_SHELL}; bash {TESTS}/run-tests.sh"
    try:
        await box.upload(archive(tests), TESTS)
    except ValueError as error:
        raise InfraError(f"{task.id}: the tests cannot be put into the box: {error}") from error
    seconds = task.verifier_timeout
    limits = box.spec.limits.model_copy(update={"wall": seconds, "cpu": seconds})
    run = await box.exec(["/bin/sh", "-c", f"{{ {command}; }} >{OUTPUT} 2>&1"], env=env, limits=limits)
    if run.reason == "timeout":
        raise InfraError(f"{task.id}: the verifier did not finish in {seconds:g} s.")
    output = await _output(box, task.id)
    if task.form == "terminal-bench":
        from envkit.adapters.terminal_bench import passed

        if run.reason != "exit" or run.code == NO_SHELL:
            raise InfraError(f"{task.id}: the verifier failed: {_ending(run, output)}")
        rewards = {"reward": float(passed(output))}
    else:
        rewards = await _rewards(box, task.id, run, output)
    return Graded(rewards=rewards, output=output[-KEPT:])


def solving(task: HarborTask) -> list[str]:
    """Shell commands that put the task's solution into its box and run it, each short enough for one call.

    UsageError where there is none, or where it needs what is this machine's: a record would keep it."""
    folder = Path(task.directory)
    contents: Sequence[tuple[str, Path | bytes]]
    if task.form == "terminal-bench":
        from envkit.adapters.terminal_bench import solution

        contents, script = solution(folder), "solution.sh"
    else:
        has = (folder / "solution").is_dir()
        contents, script = list(files(folder / "solution", within=folder).items()) if has else [], "solve.sh"
    if script not in dict(contents):
        raise UsageError(f"{task.id} has no solution: {folder} has no {script}.")
    for name, value in task.solution_env.items():
        if _TEMPLATE.fullmatch(value):
            raise UsageError(
                f"{task.id}: its solution takes {name} = {value} from this machine, which is not supported."
            )
    exports = "".join(f"export {name}={shlex.quote(value)}; " for name, value in task.solution_env.items())
    packed = base64.b64encode(gzip.compress(archive(contents), mtime=0)).decode()
    pieces = [packed[i : i + PIECE] for i in range(0, len(packed), PIECE)]
    put = [f"echo {piece} >>{SOLUTION}/packed" for piece in pieces]
    put[0] = f"mkdir -p {SOLUTION}; {put[0]}"
    unpack = f"cd {SOLUTION} && base64 -d packed | tar -xz && rm packed && chmod +x {script}"
    put[-1] += f" && ({unpack}) && export DEBIAN_FRONTEND=noninteractive; {exports}{SOLUTION}/{script}"
    return put


def from_host(task: HarborTask, variables: Mapping[str, str]) -> dict[str, str]:
    """The variables, with "${NAME}" and "${NAME:-default}" as this machine has them; UsageError where it does not."""
    found: dict[str, str] = {}
    for name, value in variables.items():
        if (template := _TEMPLATE.fullmatch(value)) is None:
            found[name] = value
            continue
        here = os.environ.get(template[1], cast("str | None", template[2]))
        if here is None:
            raise UsageError(f"{task.id}: its verifier needs the environment variable {template[1]}: set it.")
        found[name] = here
    return found


def _placed(task: HarborTask) -> dict[str, list[tuple[str, Path]]]:
    """What is copied to a box that has not its image's files already: by place, the files with their names below it."""
    spec, context = task.sandbox, task.context
    assert spec is not None, "a task of this format has a box of its own"
    written = context / "Dockerfile"
    if task.builds or not context.is_dir() or (spec.image is not None and written.is_file()):
        return {}
    if not written.is_file():
        contents = list(files(context, within=Path(task.directory)).items())
        return {spec.workdir: contents} if contents and task.form == "harbor" else {}
    placed: dict[str, list[tuple[str, Path]]] = {}
    for name, to in read_dockerfile(written).copies or ():
        place = next(place for place in (spec.workdir, *spec.folders) if to.startswith(f"{place}/"))
        placed.setdefault(place, []).append((posixpath.relpath(to, place), context / name))
    return placed


async def _rewards(box: Sandbox, task_id: str, run: ExecResult, output: str) -> dict[str, float]:
    """The numbers of reward.json, else of reward.txt."""
    try:
        try:
            return _from_json(await box.read(f"{VERIFIER}/reward.json", REWARD_BYTES))
        except FileNotFoundError:
            return {"reward": _finite(float((await box.read(f"{VERIFIER}/reward.txt", REWARD_BYTES)).decode()))}
    except FileNotFoundError:
        wrong = f"it wrote no reward and {_ending(run, output)}"
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        wrong = f"its reward cannot be read: {str(error)[:300]!a}"
    raise InfraError(f"{task_id}: the verifier failed: {wrong}")


def _ending(run: ExecResult, output: str) -> str:
    """How the verifier ended, in words."""
    how = f"code {run.code}" if run.signal is None else f"signal {run.signal}"
    return f"ended by {run.reason}, {how}; its last line: {output.strip().rpartition(chr(10))[2][-300:]!a}"


def _from_json(content: bytes) -> dict[str, float]:
    read: Any = json.loads(content)
    if not isinstance(read, dict) or not read:
        raise ValueError("reward.json is no object with numbers in it")
    rewards = {name: _finite(value) for name, value in cast("dict[str, Any]", read).items()}
    "".join(rewards).encode()  # a name with half a character in it would break the record
    return rewards


def _finite(value: Any) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{str(value)[:100]!r} is no finite number")
    return float(value)


async def _output(box: Sandbox, task_id: str) -> str:
    """What the verifier wrote, from its end; "" where a program of the box has made it unreadable. InfraError where it
    could not be read in time: nothing is known of it then."""
    limits = box.spec.limits.model_copy(update={"wall": SCRIPT_SECONDS, "output": 2 * OUTPUT_BYTES})
    result = await box.exec(["tail", "-c", str(OUTPUT_BYTES), OUTPUT], cwd="/", limits=limits)
    if result.reason != "exit":
        raise InfraError(f"{task_id}: the verifier's output could not be read: {result.reason}")
    return result.stdout.decode("utf-8", "replace")


async def _script(box: Sandbox, script: str, places: Sequence[str], *, otherwise: str) -> None:
    limits = box.spec.limits.model_copy(update={"wall": SCRIPT_SECONDS})
    result = await box.exec(["/bin/sh", "-c", script, "sh", *places], cwd="/", limits=limits)
    if not result.ok:
        said = ascii(result.stderr.decode("utf-8", "replace").strip()[-300:])
        raise InfraError(f"{otherwise}: {result.reason}, code {result.code}: {said}")
