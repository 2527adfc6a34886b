"""Where untrusted code runs: one contract, several backends."""

from __future__ import annotations

from envkit.sandbox.base import (
    Allow,
    Backend,
    Capabilities,
    ExecLimits,
    ExecResult,
    Process,
    Sandbox,
    SandboxSpec,
)

__all__ = ["Allow", "Backend", "Capabilities", "ExecLimits", "ExecResult", "Process", "Sandbox", "SandboxSpec"]
