"""How a good agent serves a task: identify, ask, look up, confirm, act, tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import orjson

from envkit import Message
from envkit.types import ToolCall

from .desk import DECISIONS, Action
from .errand import Errand, Topic, act
from .tasks import Caller, RetailTask

ASKED: dict[Topic, str] = {
    "reason": "the reason",
    "items": "which items it is about",
    "payment": "which payment method to use",
    "address": "the new address",
}
ELSE = "Is there anything else I can help you with?"


def next_reply(task: RetailTask, messages: Sequence[Message]) -> Message:
    """What a good agent says after these messages; once all is said, the same last words again."""
    said = sum(message.role == "assistant" for message in messages)
    replies = list(conversation(task))
    step = replies[min(said, len(replies) - 1)]
    if isinstance(step, str):
        return Message.assistant(step)
    arguments = orjson.dumps(step.arguments).decode()
    return Message.assistant(tool_calls=(ToolCall(id=f"call_{said}", name=step.name, arguments=arguments),))


def conversation(task: RetailTask) -> Iterator[str | Action]:
    """All that a good agent says and calls, in order."""
    yield from _identified(task.caller)
    for errand in task.errands:
        if task.caller.customer_id is None:
            yield from errand.actions
            yield f"I am sorry, I cannot find an account with that, so I cannot tell or change anything. {ELSE}"
        else:
            yield from _served(errand)


def _identified(caller: Caller) -> Iterator[str | Action]:
    yield "I can help with that. What is the e-mail address of your account, please?"
    if caller.email is not None:
        yield act("find_customer_by_email", email=caller.email)
    if caller.customer_id is None:
        yield "I do not find that address. What is your full name, and your zip code?"
    if caller.email is None or caller.customer_id is None:
        names = {"first_name": caller.first_name, "last_name": caller.last_name, "zip_code": caller.zip_code}
        yield act("find_customer_by_name_zip", **names)
    if caller.customer_id is not None:
        yield act("get_customer", customer_id=caller.customer_id)


def _served(errand: Errand) -> Iterator[str | Action]:
    wanted = [*(["the order number"] if errand.order else []), *(ASKED[topic] for topic in errand.answers)]
    if wanted:
        yield f"Thank you. Please tell me: {', '.join(wanted)}."
    yield from errand.lookups
    while errand.instead is not None:
        yield "I can do that for you as you say. Shall I go ahead?"
        errand = errand.instead
        yield from errand.lookups
    if any(action.name not in DECISIONS for action in errand.actions):
        figures = f" The amount is {' and '.join(errand.said)}." if errand.said else ""
        yield f"This is what I would do: {_described(errand)}.{figures} Shall I go ahead?"
    yield from errand.actions
    yield f"{_outcome(errand)} {ELSE}"


def _described(errand: Errand) -> str:
    return " and ".join(action.name.replace("_", " ") for action in errand.actions)


def _outcome(errand: Errand) -> str:
    if any(action.name == "decline_request" for action in errand.actions):
        return "I am sorry, our policy does not allow that, so I have left everything as it is."
    if any(action.name == "transfer_to_human" for action in errand.actions):
        return "A colleague of mine takes care of that and will call you back."
    told = f"It is {' and '.join(errand.said)}." if errand.said else ""
    return " ".join(filter(None, ("That is done." if errand.actions else "", told)))
