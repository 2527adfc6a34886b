"""`Judge`: a reward asked of a model. Its calls are on the record; its failure masks the reward, never scores it."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import math
import re
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from envkit.errors import ModelError
from envkit.limits import Deadline
from envkit.rollout import Rollout
from envkit.trace import Score
from envkit.types import Content

SHARE = 2 / 3
"""Of the time that is left for scoring, what a try may take where the judge says nothing else: most of it for one that
thinks long, and some of it for another try, and to say that none was answered."""
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
"""What code raises that reads a number out of a text which is not what it expected."""


class Judge:
    """A reward that asks the model bound to `role`.

    `prompt` is a function of the rollout, or a text in which `{prompt}`, `{reply}` and `{answer}` stand for the
    task's prompt, the policy's reply and the task's answer. `parse` reads the judge's reply as a finite number, and
    raises where it cannot, as `float` does: then the judge is asked anew, `retries` times, and after that the reward is
    None. So it is where there is no answer in `seconds`, which by default are a share of what is left for scoring. A
    model that fails makes it None too. Each try is a fresh chat, recorded in `trace.judging`; the score's reason has
    the prompt's hash: of the text before anything is filled in, or of the function's source.
    """

    def __init__(
        self,
        prompt: str | Callable[[Rollout[Any]], Content],
        parse: Callable[[str], float],
        *,
        role: str = "judge",
        retries: int = 2,
        seconds: float | None = None,
        name: str = "judge",
        system: str | None = None,
        **sampling: Any,
    ) -> None:
        self.prompt, self.parse, self.role, self.retries, self.seconds = prompt, parse, role, retries, seconds
        self.__name__ = name
        self.system, self.sampling = system, sampling
        self._hash = hashlib.sha256(_source(prompt).encode()).hexdigest()[:12]

    async def __call__(self, rollout: Rollout[Any]) -> Score:
        question = self._question(rollout)
        asked, problem, late = f"(prompt {self._hash})", "", False
        for _ in range(self.retries + 1):
            try:
                reply = await self._asked(rollout, question)
            except ModelError as error:
                return Score(value=None, reason=f"judge failed: {error} {asked}", fault=error.kind)
            except TimeoutError as error:
                problem, late = str(error), True
                continue
            try:
                return Score(value=_number(self.parse(reply)), answer=reply[-200:], reason=f"judged {asked}")
            except UNREADABLE as error:
                problem, late = f"judge's reply could not be read: {type(error).__name__}: {error}", False
        return Score(value=None, reason=f"{problem} {asked}", fault="model" if late else None)

    async def _asked(self, rollout: Rollout[Any], question: Content) -> str:
        """The reply to one try; TimeoutError where there is none in time."""
        chat = rollout.open(self.role, role=self.role, system=self.system)
        seconds = self.seconds if self.seconds is not None else _share(rollout.deadline)
        try:
            async with asyncio.timeout(seconds) as scope:
                chat.deadline = _Try(scope, whole=rollout.deadline)
                return (await chat.generate(question, **self.sampling)).text
        except TimeoutError:
            raise TimeoutError(f"judge did not answer in {seconds or 0:.3g} s") from None

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


@dataclass
class _Try(Deadline):
    """The deadline of one try, within that of the whole scoring: what makes either stand still does so for both."""

    whole: Deadline | None = None

    @contextmanager
    def paused(self) -> Generator[None]:
        with nullcontext() if self.whole is None else self.whole.paused(), super().paused():
            yield

    def give_back(self, seconds: float) -> None:
        super().give_back(seconds)
        if self.whole is not None:
            self.whole.give_back(seconds)


def _share(whole: Deadline | None) -> float | None:
    """Seconds for a try, of what is left; None where there is no limit."""
    when = None if whole is None else whole.scope.when()
    return None if when is None else SHARE * max(0.0, when - asyncio.get_running_loop().time())


def _number(value: object) -> float:
    """What a judge's reply was read as; ValueError or TypeError where that is no finite number."""
    number = float(value)  # pyright: ignore[reportArgumentType] - and raises what it is to raise
    if not math.isfinite(number):
        raise ValueError(f"{number} is no score")
    return number


def _fill(template: str, parts: dict[str, str]) -> str:
    """The template with its marks filled in one pass: a mark inside a reply is text, not a mark."""
    return re.sub("|".join(map(re.escape, parts)), lambda mark: parts[mark[0]], template)
