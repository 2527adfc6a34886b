"""`task.toml` of Harbor's format, versions 1.x, as harbor 0.25 reads it; what cannot be held to is refused by name.

A key that is not known here is refused too: it may change what the task means.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from envkit.errors import UsageError

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Network = Literal["no-network", "public", "allowlist"]

_TEMPLATE = re.compile(r"\$\{[^}]*\}")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


class Unsupported(UsageError):
    """A task asks for something of the format that envkit does not do."""


def _absent(value: Any) -> None:
    """For what is not done: it may stand there as long as it says nothing."""
    if value:
        raise ValueError("is not supported")


Absent = Annotated[Any, BeforeValidator(_absent)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Policy(Section):
    """Which network; a phase that names none has the environment's."""

    network_mode: Network | None = None
    allowed_hosts: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _hosts_fit(self) -> Self:
        if self.network_mode != "allowlist" and self.allowed_hosts:
            raise ValueError("allowed_hosts goes with network_mode = 'allowlist' alone")
        return self


class Author(Section):
    name: str
    email: str | None = None


class Package(Section):
    name: str
    version: str | None = None
    description: str = ""
    authors: tuple[Author, ...] = ()
    keywords: tuple[str, ...] = ()

    @field_validator("name")
    @classmethod
    def _with_owner(cls, name: str) -> str:
        if _NAME.fullmatch(name) is None or ".." in name:
            raise ValueError("is not of the form owner/name")
        return name


class Agent(Policy):
    timeout_sec: Seconds | None = None
    user: str | int | None = None


class Verifier(Policy):
    timeout_sec: Seconds = 600.0
    env: dict[str, str] = Field(default_factory=dict[str, str])
    user: str | int | None = None
    environment_mode: Literal["shared"] | None = None
    environment: Absent = None
    collect: Absent = None


class Solution(Section):
    env: dict[str, str] = Field(default_factory=dict[str, str])


class EnvironmentSection(Policy):
    """What the box is made of; sizes in MiB. `cpus` is read and not held to, which is said: a backend decides how
    many cores, and a pool how many boxes by that."""

    build_timeout_sec: Seconds = 600.0
    docker_image: str | None = None
    os: Literal["linux"] = "linux"
    cpus: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    memory_mb: int | None = Field(default=None, gt=0)
    storage_mb: int | None = Field(default=None, gt=0)
    gpus: Absent = None
    gpu_types: Any = None
    """Which of the GPUs that are not there."""
    tpu: Absent = None
    mcp_servers: Absent = None
    env: dict[str, str] = Field(default_factory=dict[str, str])
    skills_dir: Absent = None
    healthcheck: Absent = None
    workdir: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _older_keys(cls, data: Any) -> Any:
        """`allow_internet`, and sizes as text such as "2G", as versions before 1.2 have them."""
        if not isinstance(data, dict):
            return data  # pyright: ignore[reportUnknownVariableType]
        keys: dict[str, Any] = dict(data)  # pyright: ignore[reportUnknownArgumentType]
        for old in ("memory", "storage"):
            if (size := keys.pop(old, None)) is not None and keys.setdefault(f"{old}_mb", _mib(size)) != _mib(size):
                raise ValueError(f"{old} and {old}_mb contradict each other")
        internet = keys.pop("allow_internet", None)
        if internet is not None and "network_mode" not in keys:
            keys["network_mode"] = "public" if internet else "no-network"
        if isinstance(keys.get("os"), str):
            keys["os"] = keys["os"].lower()
        return keys

    @field_validator("env")
    @classmethod
    def _literal(cls, env: dict[str, str]) -> dict[str, str]:
        """A box's environment is part of its task, which is recorded: nothing of this machine's goes there."""
        for name, value in env.items():
            if _TEMPLATE.search(value):
                raise ValueError(f"{name} takes {value} from the machine that runs it, which is not supported")
        return env

    @field_validator("workdir")
    @classmethod
    def _absolute(cls, workdir: str | None) -> str | None:
        if workdir is not None and not workdir.startswith("/"):
            raise ValueError("is no absolute path")
        return workdir


class TaskToml(Section):
    """The whole file. `artifacts` and `source` change no score and are not used."""

    schema_version: str = "1.4"
    task: Package | None = None
    metadata: dict[str, Any] = Field(default_factory=dict[str, Any])
    verifier: Verifier = Verifier()
    agent: Agent = Agent()
    environment: EnvironmentSection = EnvironmentSection()
    solution: Solution = Solution()
    source: str | None = None
    artifacts: Any = None
    steps: Absent = None
    multi_step_reward_strategy: Any = None

    @model_validator(mode="before")
    @classmethod
    def _older_version(cls, data: Any) -> Any:
        if isinstance(data, dict) and "version" in data:
            keys: dict[str, Any] = dict(data)  # pyright: ignore[reportUnknownArgumentType]
            keys.setdefault("schema_version", keys.pop("version"))
            return keys
        return data  # pyright: ignore[reportUnknownVariableType]

    @field_validator("schema_version")
    @classmethod
    def _known(cls, version: str) -> str:
        if version != "1" and not version.startswith("1."):
            raise ValueError(f"{version!r} is not supported; versions 1.x are")
        return version

    @model_validator(mode="after")
    def _one_network(self) -> Self:
        for name, phase in (("agent", self.agent), ("verifier", self.verifier)):
            if phase.network_mode not in (None, self.network):
                raise ValueError(f"{name}.network_mode differs from the environment's, which is not supported")
        return self

    @property
    def network(self) -> Network:
        return self.environment.network_mode or "public"


def read_toml(path: Path) -> TaskToml:
    """The file's content; UsageError that names the file and the key that is wrong or not supported."""
    try:
        return TaskToml.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no TOML: {error}") from error
    except ValidationError as error:
        raise refused(path, error) from error


def refused(path: Path, error: ValidationError) -> UsageError:
    """What is wrong with the first key that is."""
    problem = error.errors()[0]
    where, message = ".".join(str(part) for part in problem["loc"]), problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        message = "is not known to this version of envkit"
    if "not supported" in message or problem["type"] in ("extra_forbidden", "literal_error"):
        return Unsupported(f"{path}: {where + ' ' if where else ''}{message}.")
    return UsageError(f"{path}: {where + ': ' if where else ''}{message}.")


def _mib(size: Any) -> int:
    """MiB of a size such as "2G"; a plain number is MiB already."""
    text = str(size).strip().upper()
    try:
        if text[-1:] in ("G", "M", "K"):
            return int(float(text[:-1]) * {"G": 1024, "M": 1, "K": 1 / 1024}[text[-1]])
    except ValueError:
        pass
    raise ValueError(f"{size!r} is no size such as '2G' or '512M'")
