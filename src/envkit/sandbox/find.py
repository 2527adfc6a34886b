"""Backends by name: those that installed distributions register, and which of them is used where nobody names one.

What isolates nothing is never chosen: it has to be asked for by saying that it is unsafe.
"""

from __future__ import annotations

import difflib
from contextlib import suppress
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from envkit.errors import EnvkitError, InfraError, UsageError
from envkit.sandbox import owners
from envkit.sandbox.base import Backend, Capabilities, Network, SandboxSpec

GROUP = "envkit.sandbox"
"""The entry point group in which a distribution names its backend classes."""

ORDER = ("slot", "docker")
"""The cheapest first; what other distributions bring comes after these."""

UNSAFE = "unsafe"

VARIANTS = {"docker": ("runsc",)}
"""Those that are worth looking for: `envkit sandbox doctor` does. Other words may be known to a backend as well."""


def names() -> list[str]:
    """The registered backends, in the order in which they are tried; `unsafe`, which never is, last."""
    found = sorted(set(_registered()) - {*ORDER, UNSAFE})
    return [name for name in (*ORDER, *found, UNSAFE) if name in _registered()]


def backend(name: str, *, unsafe: bool = False) -> Backend:
    """A new backend by its name, or by NAME:VARIANT as "docker:runsc". UsageError where there is none, or where it
    isolates nothing and nobody said so."""
    registered = _registered()
    name, colon, variant = name.partition(":")
    if name not in registered:
        raise UsageError(_unknown(name))
    if name == UNSAFE and not unsafe:
        raise UsageError(
            "The backend 'unsafe' isolates nothing: a program could read your keys, change your files and use your "
            "network.\nFor code that you would run by hand anyway, say --unsafe-sandbox on the command line, or pass "
            "UnsafeBackend(unsafe=True)."
        )
    return _make(registered[name], variant if colon else None, unsafe=name == UNSAFE)


async def choose(spec: SandboxSpec | None = None) -> Backend:
    """The first backend that works here and, if given, can hold to the spec; UsageError with each one's reason."""
    reasons: list[tuple[str, str]] = []
    for name in names():
        if name == UNSAFE:
            continue
        try:
            candidate = backend(name)
        except (UsageError, InfraError) as error:
            reasons.append((name, str(error)))
            continue
        found = await able(candidate)
        if isinstance(found, Capabilities):
            found = _lacking(found, spec)
            if found is None:
                return candidate
        with suppress(Exception):  # it is not used, and that it does not even close is the lesser reason
            await candidate.close()
        reasons.append((name, found))
    raise UsageError(_none_works(reasons))


async def able(backend: Backend) -> Capabilities | str:
    """What `Backend.available` says. One that breaks over it, as another distribution's may, has that as its reason."""
    try:
        found: Any = await backend.available()
    except (UsageError, InfraError) as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - anybody's code
        return f"The backend {backend.name!r} broke when it was asked what it can do here: {error!r}"
    if isinstance(found, Capabilities | str):
        return found
    return f"The backend {backend.name!r} says neither what it can do here nor why it cannot be used: {found!r}"


async def sweep(used: Backend) -> None:
    """Take down what killed processes left, with this backend and with our own others. Of those only with the ones by
    which something was left, and as far as it goes: what this machine lacks now, it may have had when that was made."""
    try:
        await used.sweep()
    except EnvkitError:
        raise
    except Exception as error:
        raise InfraError(f"The {used.name} sandbox could not sweep what was left: {error!r}") from error
    for name in (*ORDER, UNSAFE):
        if name != used.name.partition(":")[0] and _left_something(name):
            with suppress(EnvkitError, OSError):
                other = backend(name, unsafe=name == UNSAFE)
                await other.sweep()
                await other.close()


def _left_something(name: str) -> bool:
    try:
        return name == UNSAFE or any(not record.owner.alive() for record in owners.records(name))
    except (EnvkitError, OSError):
        return False


def network_kind(network: Network) -> str:
    """A network policy's word in `Capabilities.network`."""
    return network if isinstance(network, str) else "allow"


def _lacking(found: Capabilities, spec: SandboxSpec | None) -> str | None:
    """Why a backend that works cannot be used for this spec; None where it can."""
    if not found.isolated:
        return "It isolates nothing."
    if spec is None:
        return None
    if network_kind(spec.network) not in found.network:
        return f"It works, but offers no network {network_kind(spec.network)!r}, which is asked for."
    if spec.root and not found.root:
        return "It works, but its programs cannot be root in their box, which is asked for."
    if spec.ports and not found.ports:
        return "It works, but opens no ports of a box to this machine, which is asked for."
    if spec.image is not None and not found.images:
        return f"It works, but has no images, and {spec.image!r} is asked for."
    return None


def _registered() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _make(point: EntryPoint, variant: str | None, *, unsafe: bool) -> Backend:
    try:
        kind: Any = point.load()
    except Exception as error:  # anybody's code, or a name that is not in it
        words = f"The sandbox backend {point.name!r} ({point.value}) cannot be imported: {_said(error)}."
        raise UsageError(words) from error
    if not (isinstance(kind, type) and issubclass(kind, Backend)):
        raise UsageError(f"The sandbox backend {point.name!r} ({point.value}) is no envkit.sandbox.Backend.")
    try:
        return kind(**{"unsafe": True} if unsafe else {}) if variant is None else kind.variant(variant)
    except (UsageError, InfraError):
        raise
    except Exception as error:
        words = f"The sandbox backend {point.name!r} ({point.value}) cannot be made: {_said(error)}."
        raise UsageError(words) from error


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"


def _unknown(name: str) -> str:
    known = names()
    if not known:
        return _UNREGISTERED
    near = difflib.get_close_matches(name, known, 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"There is no sandbox backend named {name!r}.{hint} Installed: {', '.join(known)}."


def _none_works(reasons: list[tuple[str, str]]) -> str:
    if not reasons:
        return _UNREGISTERED
    lines = "\n".join(f"  {name}: {reason}" for name, reason in reasons)
    return (
        f"This needs a sandbox, and no backend can be used here:\n{lines}\n"
        "`envkit sandbox doctor` looks again. Code that you trust can be run without one: --unsafe-sandbox."
    )


_UNREGISTERED = (
    "No sandbox backend is registered, not even envkit's own: install envkit again, as by `pip install -e .` in its "
    "checkout."
)
