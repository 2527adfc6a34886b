"""The reward: the database has changed as the right actions change it, and the customer has heard what they had to."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from orjson import dumps, loads

from envkit import Rollout, Score

from .desk import DECISIONS, Action, Desk, by_email, by_name_zip
from .figures import MOST_A_REQUEST
from .tasks import RetailTask


def resolved(rollout: Rollout[Any]) -> Score:
    """1 where the changes are exactly those of the right actions and all was said, else 0, with what is amiss."""
    wrong = [*_amiss(rollout), *_unsaid(rollout)]
    return Score(value=float(not wrong), reason="; ".join(wrong)[:500] or None)


def database(rollout: Rollout[Any]) -> float:
    """1 where the changes are exactly those of the right actions, and nothing was refused before its look-ups."""
    return float(not _amiss(rollout))


def communicated(rollout: Rollout[Any]) -> float:
    """1 where the customer heard every figure that they had to, and none that they must not."""
    return float(not _unsaid(rollout))


def tool_errors(rollout: Rollout[Any]) -> float:
    """Tool calls that were answered with an error."""
    return float(sum(use.errors for use in rollout.trace.tools.values()))


def turns(rollout: Rollout[Any]) -> float:
    """The agent's model calls."""
    return float(len(rollout.trace.replies()))


def _amiss(rollout: Rollout[Any]) -> Sequence[str]:
    """Rows that should have changed and have not ("missing"), or the reverse ("extra"), and look-ups that came late."""
    right, found = list(right_changes(rollout.task)), list(rollout.info["changes"])
    missing = _without(right, found)
    extra = _without(found, right)
    return [*(f"missing: {row}" for row in missing), *(f"extra: {row}" for row in extra), *_unidentified(rollout)]


def _unsaid(rollout: Rollout[Any]) -> Sequence[str]:
    task: RetailTask = rollout.task
    heard = set(rollout.info["heard"])
    said = {figure for errand in task.errands for figure in errand.final.said}
    secret = {figure for errand in task.errands for figure in errand.final.unsaid} - said
    wrong = [f"not said: {figure}" for figure in sorted(said - heard)]
    wrong += [f"told: {figure}" for figure in sorted(secret & heard)]
    most = MOST_A_REQUEST * len(task.errands)
    return [*wrong, f"{len(heard)} figures told; at most {most}"] if len(heard) > most else wrong


def _unidentified(rollout: Rollout[Any]) -> Sequence[str]:
    """What a request was declined or handed over without: a look-up of the caller as they gave themselves; both that
    they can give where neither finds anybody."""
    task: RetailTask = rollout.task
    if not any(action.name in DECISIONS for errand in task.errands for action in errand.final.actions):
        return []
    caller = task.caller
    ways = [by_name_zip(caller.first_name, caller.last_name, caller.zip_code)]
    ways += [by_email(caller.email)] if caller.email is not None else []
    missing = [way for way in ways if way not in rollout.info["looked_up"]]
    enough = not missing if caller.customer_id is None else len(missing) < len(ways)
    return [] if enough else [f"not looked up before it was decided: {way}" for way in missing]


def _without(rows: Sequence[str], others: Sequence[str]) -> list[str]:
    """The rows that are left when each of the others is taken out once."""
    left = list(rows)
    for row in others:
        if row in left:
            left.remove(row)
    return left


def right_changes(task: RetailTask) -> tuple[str, ...]:
    """What the right actions change on a fresh copy of the shop."""
    return _made_by(
        task.shop, dumps([action.model_dump() for errand in task.errands for action in errand.final.actions])
    )


@lru_cache(maxsize=4096)  # the rollouts of a group have one task
def _made_by(shop: str, actions: bytes) -> tuple[str, ...]:
    desk = Desk(shop)
    for action in loads(actions):
        desk.perform(Action.model_validate(action))
    return tuple(desk.close())
