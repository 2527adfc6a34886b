"""`Judge`: a reward asked of a model. Its calls are on the record; its failure masks the reward, never scores it."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable
from typing import Any

from envkit.errors import ModelError
from envkit.rollout import Rollout
from envkit.trace import Score
from envkit.types import Content


class Judge:
    """A reward that asks the model bound to `role`.

    `prompt` is a function of the rollout, or a text in which `{prompt}`, `{reply}` and `{answer}` stand for the
    task's prompt, the policy's reply and the task's answer. `parse` reads the judge's reply as a number and raises
    ValueError where it cannot: then the judge is asked anew, `retries` times, and after that the reward is None.
    A model that fails makes it None too. Each try is a fresh chat, recorded in `trace.judging`; the score's reason
    has the prompt's hash: of the text before anything is filled in, or of the function's source.
    """

    def __init__(
        self,
        prompt: str | Callable[[Rollout[Any]], Content],
        parse: Callable[[str], float],
        *,
        role: str = "judge",
        retries: int = 2,
        name: str = "judge",
        system: str | None = None,
        **sampling: Any,
    ) -> None:
        self.prompt, self.parse, self.role, self.retries = prompt, parse, role, retries
        self.__name__ = name
        self.system, self.sampling = system, sampling
        self._hash = hashlib.sha256(_source(prompt).encode()).hexdigest()[:12]

    async def __call__(self, rollout: Rollout[Any]) -> Score:
        question = self._question(rollout)
        asked = f"(prompt {self._hash})"
        problem = ""
        for _ in range(self.retries + 1):
            chat = rollout.open(self.role, role=self.role, system=self.system)
            try:
                reply = await chat.generate(question, **self.sampling)
            except ModelError as error:
                return Score(value=None, reason=f"judge failed: {error} {asked}", fault=error.kind)
            try:
                return Score(value=self.parse(reply.text), answer=reply.text[-200:], reason=f"judged {asked}")
            except ValueError as error:
                problem = str(error)
        return Score(value=None, reason=f"judge's reply could not be read: {problem} {asked}")

    def _question(self, rollout: Rollout[Any]) -> Content:
        if not isinstance(self.prompt, str):
            return self.prompt(rollout)
        asked = "\n\n".join(message.text for message in rollout.task.messages())
        parts = {"{prompt}": asked, "{reply}": rollout.reply, "{answer}": str(rollout.task.answer)}
        return _fill(self.prompt, parts)


def quoted(text: str) -> str:
    """What a model wrote, for a judge's prompt: between marks that it cannot contain, so that it ends where it ends."""
    mark = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"<<<{mark}\n{text}\n{mark}>>>"


def _source(prompt: str | Callable[..., Any]) -> str:
    """What a prompt is made from: the template, or the text of the function (its name, where that cannot be had)."""
    if isinstance(prompt, str):
        return prompt
    try:
        return inspect.getsource(prompt)
    except (OSError, TypeError):
        return f"{prompt.__module__}.{getattr(prompt, '__qualname__', type(prompt).__qualname__)}"


def _fill(template: str, parts: dict[str, str]) -> str:
    """The template with its marks filled in one pass: a mark inside a reply is text, not a mark."""
    return re.sub("|".join(map(re.escape, parts)), lambda mark: parts[mark[0]], template)
