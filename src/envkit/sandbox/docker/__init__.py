"""Boxes as hardened containers of a docker daemon; `docker` itself is imported when the first box is asked for."""

from __future__ import annotations

from envkit.sandbox.docker.backend import DockerBackend

__all__ = ["DockerBackend"]
