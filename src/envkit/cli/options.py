"""`EvalOptions`: everything that `eval` can be told about a run, whoever told it.

The command line, a `@config.toml` and the `run.json` of a run that goes on say the same things by the same names;
what is nearer to the person wins, and tables are merged key by key.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from envkit.clients.endpoint import NO_SECRETS, secret_in, without_secrets
from envkit.errors import UsageError

TABLES = ("args", "sampling", "roles")
PATHS = ("out",)
_IN_SAMPLING = ("temperature", "max_tokens")


class EvalOptions(BaseModel):
    """What defines a run: its environment, data, models, sampling, how much of it, and where it goes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    env: str | None = None
    args: dict[str, Any] = Field(default_factory=dict[str, Any])
    data: str | None = None
    endpoint: str | None = None
    model: str | None = None
    key_env: str | None = None
    roles: dict[str, str] = Field(default_factory=dict[str, str])
    request_timeout: float | None = Field(default=None, gt=0)
    sandbox: str | None = None
    """The sandbox backend by its name. That it may be the unsafe one is never read from a file."""
    limit: int | None = Field(default=None, ge=1)
    ids: tuple[str, ...] | None = None
    rollouts: int | None = Field(default=None, ge=1)
    """Attempts at each task; None leaves it to the environment's env.toml."""
    shuffle: bool = False
    seed: int | None = None
    sampling: dict[str, Any] = Field(default_factory=dict[str, Any])
    concurrency: int = Field(default=32, ge=1)
    max_cost: float | None = Field(default=None, gt=0)
    max_total_tokens: int | None = Field(default=None, ge=1)
    fail_under: float | None = None
    out: str | None = None

    @classmethod
    def of(cls, *layers: tuple[str, Mapping[str, Any]]) -> EvalOptions:
        """The options that these layers, each with the name of where it comes from, say together; later ones win."""
        merged: dict[str, Any] = {}
        for where, layer in layers:
            for name, value in _by_field(layer).items():
                if name in TABLES and isinstance(value, Mapping):
                    merged[name] = {**merged.get(name, {}), **value}
                else:
                    merged[name] = value
            try:
                cls.model_validate(merged)
            except ValidationError as error:
                raise UsageError(_complaint(where, error)) from error
            if (name := secret_in(merged.get("sampling"))) is not None:
                raise UsageError(f"{where}: sampling: {NO_SECRETS.format(name=name)}, or say --key-env.")
        return cls.model_validate(merged)

    def recorded(self) -> dict[str, Any]:
        """What `run.json` keeps: paths made absolute, so that a resume may start elsewhere."""
        said = self.model_dump(mode="json", exclude_defaults=True, exclude={"out"})
        if self.env is not None and self.env.startswith((".", "~")):
            said["env"] = str(Path(self.env).expanduser().resolve())
        for name in ("data", "endpoint"):
            if name in said:
                said[name] = _absolute(said[name], bare=name == "data")
        if "roles" in said:
            said["roles"] = {role: _absolute(spec, bare=False) for role, spec in said["roles"].items()}
        return said


def read_config(path: str) -> dict[str, Any]:
    """The options in a TOML file, by their long names; UsageError where it cannot be read."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"The options in {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from error


def pairs(option: str, given: Iterable[str], *, literal: bool = False) -> dict[str, Any]:
    """`key=value` options as a dict: each value is JSON, or plain text where it is none (or `literal`)."""
    said: dict[str, Any] = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"{option} {without_secrets(pair)}: KEY=VALUE was due.")
        said[key] = value if literal else _json_or_text(value)
    return said


def split_ids(given: Iterable[str]) -> tuple[str, ...]:
    """Task ids, several to an option with commas between; a JSON list where an id has a comma itself."""
    ids: list[str] = []
    for part in given:
        listed = _json_or_text(part) if part.startswith("[") else part.split(",")
        if not isinstance(listed, list):
            raise UsageError(f"--ids {part}: ids with commas between, or a JSON list, were due.")
        ids += [str(name).strip() for name in listed]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return tuple(name for name in ids if name)


def _by_field(layer: Mapping[str, Any]) -> dict[str, Any]:
    """The layer by the names of the fields: `max-cost` is `max_cost`, and temperature is a part of the sampling."""
    said = {name.replace("-", "_"): value for name, value in layer.items()}
    shorthand = {name: said.pop(name) for name in _IN_SAMPLING if name in said}
    table = said.get("sampling", {})
    if shorthand and isinstance(table, Mapping):  # what is none is refused as such
        said["sampling"] = {**table, **shorthand}
    return said


def _complaint(where: str, error: ValidationError) -> str:
    problem = error.errors()[0]
    field = str(problem["loc"][0])
    name = field.replace("_", "-")
    if problem["type"] == "extra_forbidden":
        known = ", ".join(sorted(field.replace("_", "-") for field in EvalOptions.model_fields))
        return f"{where}: there is no option {name!r}. Options: {known}."
    return f"{where}: {name}: {problem['msg']} (it is {problem['input']!r})."


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def _absolute(spec: str, *, bare: bool) -> str:
    """A file, or `replay:FILE`, with its whole path; anything else as it is."""
    if spec.startswith("replay:"):
        return f"replay:{Path(spec.removeprefix('replay:')).resolve()}"
    return str(Path(spec).resolve()) if bare and spec != "sample" else spec
