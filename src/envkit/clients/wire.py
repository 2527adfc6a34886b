"""The OpenAI chat completion format: the body of a request, and what a response says. Both clients read it here."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Mapping
from typing import Any, Literal, cast

import orjson

from envkit.clients.base import Completion, Request
from envkit.clients.endpoint import Endpoint
from envkit.clients.overflow import overflow
from envkit.clients.retry import RETRYABLE, Retryable
from envkit.errors import ModelError
from envkit.terminal import one_line
from envkit.types import Message, ToolCall, Usage

ReasoningField = Literal["reasoning", "reasoning_content", "reasoning_details"]
REASONING_FIELDS: tuple[ReasoningField, ...] = (
    "reasoning",
    "reasoning_content",
    "reasoning_details",
)
GIVEN_UP = ("abort", "error")
"""Finish reasons of an engine that stopped in the middle: what there is of the answer is not one."""

SHOWN = 300
"""Characters of a server's own text that a message shows."""


def body(request: Request, endpoint: Endpoint, model: str) -> dict[str, Any]:
    """The request's body. Only what someone set is in it; the request's sampling wins over the endpoint's fields."""
    fields: dict[str, Any] = {
        **endpoint.extra_body,
        "model": model,
        "messages": [message.to_wire() for message in request.messages],
        **sampling(request, endpoint),
    }
    if request.tools:
        fields["tools"] = list(request.tools)
    if request.tokens:
        fields |= {"logprobs": True, "return_token_ids": True}
    if endpoint.stream:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    return fields


def encoded(fields: Mapping[str, Any]) -> bytes:
    """The body as JSON."""
    try:
        # orjson leaves its whole buffer behind its result, 4 KB at least: a copy is what a thousand live requests want
        return bytes(memoryview(orjson.dumps(fields)))
    except TypeError:  # lone surrogates and integers beyond 64 bits, which orjson refuses
        return json.dumps(fields).encode()


def sampling(request: Request, endpoint: Endpoint) -> dict[str, Any]:
    """The request's sampling over the endpoint's."""
    return {**endpoint.sampling, **request.sampling}


def completion(raw: Any, request: Request, endpoint: Endpoint, *, secret: str | None = None) -> Completion:
    """What a whole response says; Retryable where it is not one, ModelError where asked-for tokens are missing."""
    try:
        choice = raw["choices"][0]
        message = _message(choice["message"])
        usage = _usage(raw.get("usage"))
        model, reason = raw.get("model"), choice.get("finish_reason")
    except (LookupError, TypeError, ValueError, AttributeError):
        raise malformed(raw, endpoint, secret=secret) from None
    if reason in GIVEN_UP:
        raise Retryable(f"{endpoint.url} gave up in the middle of its answer (finish_reason {reason!r}).")
    tokens = _tokens(raw, choice, endpoint) if request.tokens else {}
    return Completion(
        message=message,
        finish_reason=reason if reason and isinstance(reason, str) else "stop",
        usage=usage,
        model=model if isinstance(model, str) else None,
        sampling=sampling(request, endpoint),
        cost=endpoint.cost(usage.prompt_tokens, usage.completion_tokens) if usage else None,
        **tokens,
    )


def malformed(raw: Any, endpoint: Endpoint, *, secret: str | None = None) -> ModelError:
    """The error of a response that holds no answer: often one of the server's own, under a status of success."""
    text = said(raw, secret)
    if isinstance(raw, Mapping) and "error" in raw and (error := overflow(text, text, endpoint.url)) is not None:
        return error
    return Retryable(f"{endpoint.url} answered without a message: {text or 'nothing'}")


def refusal(
    status: int,
    text: str,
    endpoint: Endpoint,
    *,
    secret: str | None = None,
    after: float | None = None,
    advice: str = "",
) -> ModelError:
    """The error of an HTTP status that is no success; `after` is what the server asks to wait, in seconds."""
    try:
        told = said(orjson.loads(text), secret)
    except orjson.JSONDecodeError:
        told = shown(text, secret)
    if status in (400, 413, 422) and (error := overflow(text, told, endpoint.url, status=status)) is not None:
        return error
    message = f"{endpoint.url} answered {status}: {told or 'nothing'}"
    if status in RETRYABLE:
        return Retryable(message, status=status, after=after)
    return ModelError(f"{message.rstrip('.')}. {advice}" if advice else message, status=status)


def said(raw: Any, secret: str | None = None) -> str:
    """The server's own sentence in an error body of any common form, fit to be shown."""
    told: object = raw
    while isinstance(told, Mapping):
        fields = cast("Mapping[str, Any]", told)
        inner = next((fields[name] for name in ("error", "message", "detail") if fields.get(name)), None)
        if inner is None:
            break
        told = inner
    return shown(str(cast("object", told)), secret)


def shown(text: str, secret: str | None = None) -> str:
    """A server's own text, fit for a message: short, on one line, without control characters, and without the key."""
    line = one_line(text, 20 * SHOWN)
    if secret is not None and len(secret) > 3:  # a placeholder such as "x" hides nothing
        line = line.replace(secret, "[the key]")
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"


def _message(fields: Mapping[str, Any]) -> Message:
    calls = fields.get("tool_calls")
    field = next(filter(fields.get, REASONING_FIELDS), None)
    if not calls and field is None:
        return Message(role="assistant", content=fields.get("content") or "")
    return Message(
        role="assistant",
        content=fields.get("content") or "",
        tool_calls=tuple(_call(call, index) for index, call in enumerate(calls or ())),
        reasoning=fields[field] if field else None,
        reasoning_field=field,
    )


def _call(call: Mapping[str, Any], index: int) -> ToolCall:
    function = call["function"]
    return ToolCall(id=call.get("id") or f"call_{index}", name=function["name"], arguments=function["arguments"] or "")


def _usage(raw: Any) -> Usage | None:
    if not isinstance(raw, dict):
        return None
    counts = cast("Mapping[str, Any]", raw)
    details: Mapping[str, Any] = counts.get("completion_tokens_details") or {}
    cached: Mapping[str, Any] = counts.get("prompt_tokens_details") or {}
    return Usage(
        prompt_tokens=counts.get("prompt_tokens") or 0,
        completion_tokens=counts.get("completion_tokens") or 0,
        reasoning_tokens=details.get("reasoning_tokens") or 0,
        cached_tokens=cached.get("cached_tokens") or 0,
    )


def _tokens(raw: Mapping[str, Any], choice: Mapping[str, Any], endpoint: Endpoint) -> dict[str, Any]:
    """Ids and logprobs, as vLLM and SGLang give them; ModelError where one is missing or is no number."""
    try:
        prompt = raw.get("prompt_token_ids") or choice.get("prompt_token_ids")
        new, logprobs = _sampled(choice)
        if prompt is None or new is None:
            raise ModelError(
                f"{endpoint.url} gave no token ids: vLLM gives them, and SGLang does with "
                "extra_body = {return_prompt_token_ids = true, return_meta_info = true}."
            )
        if len(logprobs) != len(new):
            raise ModelError(
                f"{endpoint.url} gave {len(logprobs)} logprobs for {len(new)} tokens; each token needs its own."
            )
        tokens = {
            "prompt_ids": array("i", prompt),
            "completion_ids": array("i", new),
            "logprobs": array("f", logprobs),
        }
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
        raise ModelError(f"{endpoint.url} gave token ids or logprobs that cannot be read.") from None
    if not all(map(math.isfinite, tokens["logprobs"])):
        raise ModelError(f"{endpoint.url} gave a logprob that is not finite.")
    return {**tokens, "version": _version(raw, choice)}


def _sampled(choice: Mapping[str, Any]) -> tuple[list[int] | None, list[float]]:
    """(ids, logprobs) of the completion: SGLang's rows of (logprob, id, text), or else vLLM's two lists."""
    meta: Mapping[str, Any] = choice.get("meta_info") or {}
    rows: list[Any] | None = meta.get("output_token_logprobs")
    if rows is not None:
        return [row[1] for row in rows], [row[0] for row in rows]
    logged: Mapping[str, Any] = choice.get("logprobs") or {}
    return choice.get("token_ids"), [part["logprob"] for part in logged.get("content") or ()]


def _version(raw: Mapping[str, Any], choice: Mapping[str, Any]) -> str | None:
    """The weights' version where the engine tells it, else the fingerprint of what serves them."""
    for source in (choice.get("meta_info"), raw.get("metadata"), raw):
        if isinstance(source, Mapping):
            fields = cast("Mapping[str, Any]", source)
            version = fields.get("weight_version") or fields.get("model_version")
            if version is not None:
                return str(version)
    fingerprint = raw.get("system_fingerprint")
    return None if fingerprint is None else str(fingerprint)
