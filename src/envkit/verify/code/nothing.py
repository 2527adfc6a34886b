"""The verdict on a reply in which there is nothing to be run."""

from __future__ import annotations

from envkit.verify.code.toolchain import interpreter, toolchain
from envkit.verify.code.verdict import Fresh, Verdict


async def nothing_to_run(
    fresh: Fresh, reason: str = "no program in the reply", *, language: str = "python", answer: str | None = None
) -> Verdict:
    """Wrong, for this reason. It says what would have run a program, as every verdict does: a box is asked."""
    tools = toolchain(language)
    async with fresh() as box:
        version = await interpreter(box, tools)
    return Verdict(False, (), reason, answer, interpreter=version)
