"""`envkit eval --dry-run`: what would run. Servers are asked whether they answer; no model is asked anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envkit.cli.console import columns, write, write_json
from envkit.clients.base import Client, Completion, Request
from envkit.errors import ModelError
from envkit.evaluate import bound
from envkit.lifecycle import run_rollout
from envkit.rollout import POLICY, Services
from envkit.types import Message

if TYPE_CHECKING:
    from envkit.cli.running import Plan
    from envkit.sandbox.pool import Boxes, Opened


async def preview(plan: Plan, *, as_json: bool, unsafe: bool = False) -> int:
    """Show the plan, its endpoints and sandbox resolved; exit code 0, or the error that the run would begin with."""
    from envkit.cli.running import sandbox_of
    from envkit.sandbox.pool import opened

    async with (
        opened(sandbox_of(plan.options.sandbox, unsafe=unsafe), plan.env.sandbox) as pool,
        bound(plan.models, plan.env) as clients,
    ):
        said = await _facts(plan, {role: client.about() for role, client in clients.items()}, pool)
    if as_json:
        write_json(said)
    else:
        write(_text(said))
    return 0


async def _facts(plan: Plan, models: dict[str, Any], pool: Opened) -> dict[str, Any]:
    options, selection = plan.options, plan.selection
    first = next(iter(selection.tasks(plan.env.tasks)))
    messages = await _first_prompt(plan, first, pool.boxes)
    return {
        "env": plan.package.name,
        "version": plan.package.version,
        "origin": plan.package.origin,
        "args": options.args,
        "dataset": plan.env.tasks.about,
        "n_tasks": plan.n_tasks,
        "k": selection.k,
        "rollouts": plan.n_rollouts,
        "concurrency": options.concurrency,
        "models": models,
        "sandbox": pool.about,
        "sampling": _sampling(plan, models[POLICY]),
        "seed": options.seed,
        "out": options.out or f"runs/<time>_{plan.package.name}_<model>_<id>",
        "first_task": first.id,
        "first_prompt": [message.to_wire() if not message.images else _told(message) for message in messages],
    }


def _sampling(plan: Plan, model: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Each sampling parameter with its value and where it comes from; the later source wins."""
    layers = (
        ("endpoints.toml", model.get("sampling", {})),
        ("env.toml", plan.package.manifest.sampling),
        ("environment", {k: v for k, v in plan.env.sampling.items() if plan.package.manifest.sampling.get(k) != v}),
        ("command line", plan.options.sampling),
    )
    return {name: {"value": value, "from": where} for where, layer in layers for name, value in layer.items()}


async def _first_prompt(plan: Plan, task: Any, boxes: Boxes) -> list[Message]:
    """What the policy would be sent first. Where `run` writes it, `run` is begun and stopped at its first call."""
    opening = list(task.messages())
    if opening:
        system = plan.env.system_prompt
        return opening if system is None else [Message.system(system), *opening]
    catcher = _Catcher()
    try:
        await run_rollout(plan.env, task, Services(dict.fromkeys((POLICY, *plan.env.roles), catcher), boxes=boxes))
    finally:
        await plan.env.end()
    return list(catcher.first.messages) if catcher.first else []


class _Catcher(Client):
    """Keeps the first request and answers none."""

    first: Request | None = None

    async def complete(self, request: Request) -> Completion:
        self.first = self.first or request
        raise ModelError("nothing is asked in a dry run")


def _told(message: Message) -> dict[str, Any]:
    """A message with images as a person can read it: their type and digest in place of their bytes."""
    return {"role": message.role, "content": f"{message.text}\n{[image.digest for image in message.images]}"}


def _text(said: dict[str, Any]) -> str:
    sampling = [f"{name}={part['value']} ({part['from']})" for name, part in said["sampling"].items()]
    models = [
        [role, f"{about.get('model') or '?'}" + (f" at {about['url']}" if "url" in about else "")]
        for role, about in said["models"].items()
    ]
    args = " ".join(f"{name}={value!r}" for name, value in said["args"].items())
    box = said["sandbox"]
    dataset = ", ".join(f"{name} {value}" for name, value in said["dataset"].items() if value is not None)
    rows = [
        ["environment", f"{said['env']} {said['version']} ({said['origin']}) {args}".rstrip()],
        ["dataset", dataset or "made by the environment"],
        [
            "rollouts",
            f"{said['n_tasks']:,} tasks, {said['k']} each: {said['rollouts']:,}, {said['concurrency']} at a time",
        ],
        *models,
        *([["sandbox", f"{box['backend']}, {box['interpreter'] or 'without Python'}"]] if box else []),
        ["sampling", ", ".join(sampling) or "the server's own"],
        ["saved in", said["out"]],
    ]
    prompt = "\n".join(f"[{message['role']}] {message['content']}" for message in said["first_prompt"])
    return f"{columns(rows)}\n\nThe first prompt ({said['first_task']}):\n\n{prompt}\n\nNothing was asked of a model."
