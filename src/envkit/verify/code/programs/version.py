"""Says which Python this is."""

from __future__ import annotations

from envkit.verify.code.programs.channel import version

print(version())
