"""Where the docker daemon is, found as docker's own command does, and what to do where none answers."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any, cast

_START = {
    "darwin": "start Docker Desktop (`open -a Docker`), OrbStack or Colima",
    "win32": "start Docker Desktop",
}
_ELSEWHERE_START = "start one (as root, `setsid dockerd &`)"


def default() -> str:
    """DOCKER_HOST, or the address of the context in use, or the usual place: the first where something is."""
    if said := os.environ.get("DOCKER_HOST") or _of_context():
        return said
    places = _usual()
    return next((place for place in places if Path(place.removeprefix("unix://")).exists()), places[0])


def unreachable(address: str) -> str:
    """Why no call can succeed, as far as the address and its socket tell; "" where one may."""
    if address.startswith("npipe:"):
        return (
            f"The docker daemon at {address} is reached by a named pipe, whose end of input cannot be told from here. "
            "In Docker Desktop's settings, under General, expose the daemon on tcp://localhost:2375 without TLS, and "
            "set DOCKER_HOST=tcp://localhost:2375."
        )
    if not address.startswith(("unix://", "tcp://")):
        return f"The docker daemon at {address} is reached in a way that is not supported: use unix:// or tcp://."
    path = address.removeprefix("unix://")
    if address.startswith("tcp://") or os.access(path, os.R_OK | os.W_OK):
        return ""
    if os.path.exists(path):
        return f"{path} is not open to you: have yourself added to the group docker and log in again."
    return silent(address)


def silent(address: str) -> str:
    """That no daemon answers, and what to do about it on this kind of system."""
    return f"No docker daemon answers at {address}: {_START.get(sys.platform, _ELSEWHERE_START)}."


def _usual() -> list[str]:
    home = Path.home()
    if sys.platform == "win32":
        return ["npipe:////./pipe/docker_engine"]
    if sys.platform == "darwin":
        own = [
            home / ".docker/run/docker.sock",
            home / ".orbstack/run/docker.sock",
            home / ".colima/default/docker.sock",
        ]
    else:
        runtime = os.environ.get("XDG_RUNTIME_DIR")
        own = [*([Path(runtime, "docker.sock")] if runtime else []), home / ".docker/desktop/docker.sock"]
    return [f"unix://{path}" for path in (Path("/var/run/docker.sock"), *own)]


def _of_context() -> str | None:
    """Docker keeps a context under the hash of its name."""
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    name = os.environ.get("DOCKER_CONTEXT") or _read(folder / "config.json").get("currentContext")
    if not isinstance(name, str) or name == "default":
        return None
    context = _read(folder / "contexts/meta" / hashlib.sha256(name.encode()).hexdigest() / "meta.json")
    try:
        return str(context["Endpoints"]["docker"]["Host"]) or None
    except (KeyError, TypeError):
        return None


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return cast(dict[str, Any], found) if isinstance(found, dict) else {}
