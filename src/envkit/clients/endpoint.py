"""`Endpoint`: where a model is served. Keys are known only by the name of an environment variable."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from envkit.clients.base import Client
from envkit.errors import ModelError, UsageError

if TYPE_CHECKING:
    from envkit.environment import Environment

NO_SECRETS = "{name!r} seems to hold a key, and a run records what is sent: name the key's variable as `key`"
_SECRET = re.compile(
    r"(?:.*[_-])?(?:api[_-]?key|authorization|secret|secret[_-]key|password|credentials?)"
    r"|(?:(?:access|api|auth|bearer|hf|refresh|session)[_-]?)?token",
    re.IGNORECASE,
)
"""Names of fields that hold a key, and not such as `max_tokens`, `stop_token_ids` or `eos_token`."""
SCRIPTED = ("oracle", "nop", "human", "replay:FILE")


class Endpoint(BaseModel):
    """Where a model is served, and how it is asked.

    `key` is the NAME of the environment variable that holds the key. `max_in_flight` bounds the requests under way
    at once, `request_timeout` (seconds) one try of one request: without it only connecting has a deadline.
    Prices are US dollars for a million tokens.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: str
    model: str | None = None
    key: str | None = None
    sampling: dict[str, Any] = Field(default_factory=dict[str, Any])
    extra_body: dict[str, Any] = Field(default_factory=dict[str, Any])
    max_in_flight: int | None = Field(default=None, gt=0)
    request_timeout: float | None = Field(default=None, gt=0)
    max_retries: int = Field(default=6, ge=0)
    stream: bool = False
    input_price: float | None = Field(default=None, ge=0)
    output_price: float | None = Field(default=None, ge=0)

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("it must begin with http:// or https:// and name a host")
        try:
            _ = parts.port
        except ValueError:  # whose words repeat what may be a password
            raise ValueError("its port must be a number up to 65535") from None
        if parts.username or parts.password:
            raise ValueError("it must not hold a password: name the key's environment variable")
        if parts.query or parts.fragment:
            raise ValueError("it must end with its path: the route is added to it, and a key is never part of it")
        return url.rstrip("/")

    @field_validator("key")
    @classmethod
    def _is_a_name(cls, key: str | None) -> str | None:
        if key is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", key):
            raise ValueError("it must be the NAME of an environment variable, never the key itself")
        return key

    @field_validator("sampling", "extra_body")
    @classmethod
    def _holds_no_key(cls, fields: dict[str, Any]) -> dict[str, Any]:
        if (name := secret_in(fields)) is not None:
            raise ValueError(NO_SECRETS.format(name=name))
        return fields

    @property
    def secret(self) -> str | None:
        """The key; ModelError where its variable is not set, or holds what can be none."""
        name = self.key_name
        if name is None:
            return None
        key = os.environ.get(name, "").strip()  # a file's last newline comes along with $(cat file)
        if not key:
            raise ModelError(f"{self.url} needs a key: set the environment variable {name}.", status=401)
        if not (key.isascii() and key.isprintable()):
            raise ModelError(f"The environment variable {name} holds no key: it has characters that none has.")
        return key

    @property
    def key_name(self) -> str | None:
        """The key's variable: where none is named, ENVKIT_API_KEY if it is set; OPENAI_API_KEY for OpenAI alone."""
        if self.key is not None:
            return self.key
        if os.environ.get("ENVKIT_API_KEY"):
            return "ENVKIT_API_KEY"
        return "OPENAI_API_KEY" if urlsplit(self.url).hostname == "api.openai.com" else None

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """US dollars for these tokens; None where a price is not known."""
        if self.input_price is None or self.output_price is None:
            return None
        return (prompt_tokens * self.input_price + completion_tokens * self.output_price) / 1_000_000

    def with_(self, **changes: Any) -> Endpoint:
        """This endpoint with the given fields changed, None leaving one as it is; UsageError for a wrong one."""
        wanted = {name: value for name, value in changes.items() if value is not None}
        return _checked({**self.model_dump(), **wanted}, self.url) if wanted else self


def endpoint(spec: str) -> Endpoint:
    """The endpoint of a URL or of an alias in `endpoints.toml`; UsageError with the nearest names for any other."""
    if spec.startswith(("http://", "https://")):
        return _checked({"url": spec}, f"--endpoint {without_secrets(spec)}")
    known = aliases()
    if spec in known:
        return known[spec]
    near = difflib.get_close_matches(spec, [*known, *SCRIPTED], n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(repr(name) for name in near)}?" if near else ""
    raise UsageError(
        f"There is no endpoint {without_secrets(spec)!r}.{hint} It may be a URL (http://host:port/v1), an alias of "
        f"endpoints.toml ({', '.join(known) or 'none found'}), or one of {', '.join(SCRIPTED)}."
    )


def without_secrets(url: str) -> str:
    """What was typed for a URL, fit to be shown: without user, password, query and fragment."""
    scheme, colon, rest = re.split("[?#]", url, maxsplit=1)[0].rpartition("://")
    place = rest.rpartition("@")[2]
    return scheme + colon + re.sub(r":(?!\d+(/|$))[^/]*", "", place) if colon else place


def secret_in(fields: Any) -> str | None:
    """The name of a field of a body, at any depth, that seems to hold a key; None where there is none."""
    if isinstance(fields, list):
        return next(filter(None, map(secret_in, cast("list[Any]", fields))), None)
    if not isinstance(fields, dict):
        return None
    for name, value in cast("dict[str, Any]", fields).items():
        found = name if _SECRET.fullmatch(name) and isinstance(value, str) else secret_in(value)
        if found is not None:
            return found
    return None


def aliases() -> dict[str, Endpoint]:
    """The endpoints by alias, of $ENVKIT_ENDPOINTS; else of ./endpoints.toml over that in ~/.config/envkit."""
    named = os.environ.get("ENVKIT_ENDPOINTS")
    paths = [Path(named)] if named else [Path.home() / ".config/envkit/endpoints.toml", Path("endpoints.toml")]
    if named and not paths[0].is_file():
        raise UsageError(f"ENVKIT_ENDPOINTS names {named}, which is no file.")
    found: dict[str, Endpoint] = {}
    for path in paths:
        if path.is_file():
            for alias, fields in _tables(path).items():
                found[alias] = _checked(fields, f"{path} [{alias}]")
    return found


async def bind(model: str | Endpoint, env: Environment[Any], role: str = "policy") -> Client:
    """The client of an endpoint, alias, URL or scripted name, asked once whether it answers; `role` is the oracle's.

    UsageError for what names nothing, ModelError where the server refuses, is not there, or wants a key.
    """
    if isinstance(model, str):
        from envkit.clients import scripted

        kind, _, file = model.partition(":")
        if model == "oracle":
            return scripted.Oracle(env, role)
        if model == "nop":
            return scripted.Nop()
        if model == "human":
            return scripted.Human()
        if kind == "replay" and not file.startswith("//"):
            return scripted.Replay(file)
        model = endpoint(model)
    from envkit.clients.http import HTTPClient

    client = HTTPClient(model)
    try:
        await client.preflight()
    except BaseException:
        await client.close()
        raise
    return client


def _tables(path: Path) -> dict[str, dict[str, Any]]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{path} cannot be read as TOML: {error}") from error
    for alias, fields in content.items():
        if not isinstance(fields, dict):
            raise UsageError(f"{path}: {alias!r} must be a table: [{alias}] with url = ... under it.")
    return content


def _checked(fields: dict[str, Any], where: str) -> Endpoint:
    try:
        return Endpoint.model_validate(fields)
    except ValidationError as error:
        problem = error.errors(include_input=False)[0]
        field = ".".join(map(str, problem["loc"]))
        known = ", ".join(Endpoint.model_fields)
        raise UsageError(
            f"{where}: {field}: {problem['msg'].removeprefix('Value error, ')} (fields: {known})"
        ) from None
