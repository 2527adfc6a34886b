"""The customer: a script that answers what is asked, or a model that is told who it is. Both hear and say text only."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator

from envkit import Chat

from .errand import Errand, Topic
from .figures import LONGEST, unreadable
from .tasks import RetailTask

GREETING = "Hello, this is the customer service of Fernwood. How can I help you?"
DONE = "[END]"
"""What a customer who is a model says at the end."""
PATIENCE = 3
"""Replies in a row with nothing in them (or the same again) after which a customer leaves."""
ENDLESS = 20 * LONGEST
"""Characters of a reply at which a customer leaves at once."""


class Customer(ABC):
    """Says what the customer says; None once they are gone."""

    def __init__(self) -> None:
        self._before = ""
        self._empty = 0

    @abstractmethod
    async def answer(self, text: str) -> str | None:
        """What they say to a message that they have read; first to the greeting."""

    async def reply(self, text: str) -> str | None:
        """What they say to this message, whatever it is; None where they are served, or have had enough."""
        self._empty = self._empty + 1 if not text.strip() or text == self._before else 0
        self._before = text
        if self._empty == PATIENCE or len(text) > ENDLESS:
            return None
        if not text.strip():
            return "Hello? Are you still there?"
        return unreadable(text) or await self.answer(text)


class ModelCustomer(Customer):
    """A model in the customer's part."""

    def __init__(self, chat: Chat) -> None:
        super().__init__()
        self._chat = chat

    async def answer(self, text: str) -> str | None:
        self._stay_within_limits()
        said = (await self._chat.generate(text)).text
        return None if DONE in said else said

    def _stay_within_limits(self) -> None:
        """The customer speaks first and has no more turns than the desk, whose episode ends where they have none."""
        rollout = self._chat.rollout
        turns = rollout.spent(self._chat.agent).turns
        if rollout.limits.max_turns is not None and turns >= rollout.limits.max_turns:
            rollout.chat.cut_short("max_turns")


class ScriptedCustomer(Customer):
    """A customer who brings up one errand after the other and answers by what words a question has.

    They go on to the next when the desk asks whether there is anything else, or has asked nothing twice in a row; after
    the last they are gone. A desk that settles nothing is asked for it again, without end.
    """

    def __init__(self, task: RetailTask) -> None:
        super().__init__()
        self._caller = task.caller
        self._coming: Iterator[Errand] = iter(task.errands)
        self._errand: Errand | None = None
        self._unasked = 0

    async def answer(self, text: str) -> str | None:
        return self.say(text)

    def say(self, text: str) -> str | None:
        """What they say to this, from the script alone."""
        errand = self._errand
        if errand is None:
            return self._next("Hello.")
        asked = list(_questions(text))
        questions = " ".join(sentence for sentence in asked if not _ELSE.search(sentence) or _CONFIRM.search(sentence))
        identity = list(self._identity(questions))
        said = [*identity, *_facts(errand, questions)]
        agreed = not identity and bool(_CONFIRM.search(questions))
        over = not said and not agreed and (any(map(_ELSE.search, asked)) or self._waited(asked))
        if errand.instead is not None and (agreed or over):
            self._errand = errand.instead
            return errand.instead.goal
        if over:
            return self._next("Thank you. There is something else.")
        if said or agreed:
            return " ".join([*([errand.agree] if agreed else []), *said])
        if not asked:
            return "All right. Is that done now?"
        return " ".join(filter(None, (errand.goal, errand.order, *errand.answers.values())))

    def _next(self, first: str) -> str | None:
        self._errand, self._unasked = next(self._coming, None), 0
        return None if self._errand is None else f"{first} {self._errand.goal}"

    def _waited(self, asked: list[str]) -> bool:
        """Whether nothing was asked for the second time in a row."""
        self._unasked = 0 if asked else self._unasked + 1
        return self._unasked == 2

    def _identity(self, questions: str) -> Iterator[str]:
        caller = self._caller
        if _EMAIL.search(questions):
            unknown = "I do not remember which e-mail address I used."
            yield unknown if caller.email is None else f"My e-mail address is {caller.email}."
        zip_asked = _ZIP.search(questions) and not _TOPICS["address"].search(questions)
        if _NAME.search(questions) or zip_asked or (_EMAIL.search(questions) and caller.email is None):
            yield f"My name is {caller.first_name} {caller.last_name}, and my zip code is {caller.zip_code}."


def _facts(errand: Errand, questions: str) -> Iterator[str]:
    if errand.order and _ORDER.search(questions):
        yield errand.order
    for topic, answer in errand.answers.items():
        if _TOPICS[topic].search(questions):
            yield answer


def _questions(text: str) -> Iterator[str]:
    """The sentences of a message that ask for something; all that follows one which ends with a colon is a part."""
    rest = _MAIL_ADDRESS.sub("email", text)
    while rest:
        sentence, end, rest = _sentence(rest)
        if end == "?" or _ASKS.search(sentence):
            yield sentence if end != ":" else f"{sentence} {rest}"
            if end == ":":
                return


def _sentence(text: str) -> tuple[str, str, str]:
    """(the first sentence, the mark at its end, what follows)."""
    if found := _END.search(text):
        return text[: found.start()], found[1], text[found.end() :]
    return text, "", ""


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


_END = _words(r"([?!.:])(?:[\s)*\"']+|$)|\n\n")
_ASKS = _words(
    r"\b(please|let me know|could you|can you|would you|may i|shall i|should i|tell me|i(?:'ll| will)? need|confirm)\b"
)
_ELSE = _words(
    r"\b(?:anything|something|what) else\b|\b(?:other|further|more) (?:question|request|help|assistance|concern)"
    r"|\belse (?:i|we) can\b"
)
_CONFIRM = _words(
    r"\bconfirm\b(?! (?:that )?(?:your|the|which|what) (?:e-?mail|full|name|identity|zip|order|item|reason|pay|new))"
    r"|\b(?:proceed(?!,)|go(?:ing)? ahead|shall i|should i|yes|agree|(?:okay|all right) (?:to|with|if)"
    r"|(?:would you like|do you want|want) me to (?!help|assist|do anything)"
    r"|is (?:this|that|everything) (?:correct|right|okay|ok|fine|all right))\b"
)
_MAIL_ADDRESS = _words(r"\be-?mail address(?:es)?\b")
_EMAIL = _words(r"\be-?mail\b|\b(?:verify|confirm|identify) your(?:self| identity| account)\b|\baccount details\b")
_NAME = _words(r"\b(?:full|your|first|last) name\b|\bsurname\b|\bname and\b")
_ZIP = _words(r"\bzip\b|\bpost(?:al )?code\b")
_ORDER = _words(r"\border (?:number|id|no|#)|\bnumber of (?:the|your) order\b|\b(?:which|what)(?: of \w+)? orders?\b")
_TOPICS: dict[Topic, re.Pattern[str]] = {
    "reason": _words(r"\breasons?\b|\bwhy\b"),
    "items": _words(
        r"\b(?:items?|products?|variants?|options?|colou?rs?|sizes?|which one|replace(?:ment)?)\b"
        r"|\bwhat (?:exactly )?(?:would you like|do you want|should (?:be|change))\b"
    ),
    "payment": _words(
        r"\bpay(?:ment|ing)?\b|\bpaid\b|\bmethods?\b|\bcards?\b|\bwallet\b|\brefunded to\b|\bcharged? to\b"
    ),
    "address": _words(r"\baddress(?:es)?\b|\bstreet\b|\bwhere (?:should|to|would)\b"),
}


def persona(task: RetailTask) -> str:
    """What a model is told who plays the customer."""
    caller = task.caller
    email = "You do not remember which e-mail address you used." if caller.email is None else f"E-mail: {caller.email}."
    wishes = "\n\n".join(f"Request {number}.\n{_told(errand)}" for number, errand in enumerate(task.errands, 1))
    return PERSONA.format(
        name=f"{caller.first_name} {caller.last_name}", zip=caller.zip_code, email=email, wishes=wishes, done=DONE
    )


def _told(errand: Errand) -> str:
    facts = [errand.order, *errand.answers.values()]
    lines = [f"You open with: {errand.goal}", *(f"If asked: {fact}" for fact in facts if fact)]
    lines.append(f"If asked whether it should be done: {errand.agree if errand.instead is None else 'do not agree.'}")
    if errand.instead is not None:
        lines.append("Instead, at that moment, you change your mind. Then:\n" + _told(errand.instead))
    return "\n".join(lines)


PERSONA = """\
You play a customer who writes to the customer service of a shop. You are {name}, zip code {zip}. {email}

You want the following, one request after the other; bring up the next only when the one before is settled: done,
refused, or handed over to a colleague.

{wishes}

Write one short message at a time, in plain words, as a customer would. Say only what is written above, and only when
you are asked for it; if you are asked for anything else, you do not know it. Do not make up names, numbers or wishes,
and do not play the agent. When all requests are settled, answer only {done}"""
