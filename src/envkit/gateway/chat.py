"""OpenAI's chat completions: a body as `Asked`, and the answer, whole or streamed."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

from pydantic import Field

from envkit.clients.wire import REASONING_FIELDS, ReasoningField
from envkit.gateway.asked import (
    Allowed,
    Answered,
    Asked,
    Count,
    Dialect,
    Event,
    Name,
    Penalty,
    Refused,
    Share,
    Temperature,
    Wire,
    choose,
    chosen,
    content,
    finish_reason,
    function,
    image,
    joined,
    read,
    set_fields,
)
from envkit.types import Image, Message, Role, Text, ToolCall, Usage

PASSED = ("temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "seed", "presence_penalty",
          "frequency_penalty")  # fmt: skip
"""What a program may say of sampling, where the run does not. With `tool_choice`, `parallel_tool_calls` and
`response_format`; all else that it says of sampling is let fall, and what would break the record is refused."""


class _Text(Wire):
    type: Literal["text"]
    text: str


class _URL(Wire):
    url: str


class _Image(Wire):
    type: Literal["image_url"]
    image_url: _URL


class _Refusal(Wire):
    """What OpenAI's models say in place of an answer: text, as every answer is here."""

    type: Literal["refusal"]
    refusal: str


class _Function(Wire):
    name: Name
    arguments: str


class _Call(Wire):
    id: str
    type: Literal["function"] = "function"
    function: _Function


class _Message(Wire):
    role: Role
    content: str | list[Annotated[_Text | _Image | _Refusal, Field(discriminator="type")]] | None = None
    refusal: str | None = None
    name: str | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None
    reasoning: Any = None
    reasoning_content: Any = None
    reasoning_details: Any = None


class _Declared(Wire):
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None


class _Tool(Wire):
    type: Literal["function"]
    function: _Declared


class _Named(Wire):
    name: str


class _Chosen(Wire):
    type: Literal["function"]
    function: _Named


class _Allowing(Wire):
    type: Literal["allowed_tools"]
    allowed_tools: Allowed


class _Format(Wire):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = None


class _StreamOptions(Wire):
    include_usage: bool | None = None


class _Body(Wire):
    messages: list[_Message] = Field(min_length=1)
    model: str = ""
    tools: list[_Tool] | None = None
    tool_choice: (
        Literal["none", "auto", "required"] | Annotated[_Chosen | _Allowing, Field(discriminator="type")] | None
    ) = None
    parallel_tool_calls: bool | None = None
    response_format: _Format | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    stop: str | Annotated[list[str], Field(max_length=16)] | None = None
    seed: int | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    n: int | None = None
    logit_bias: dict[str, Any] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    functions: list[Any] | None = None


def asked(body: dict[str, Any]) -> Asked:
    """What a body asks; Refused where it is none, or asks for what cannot be recorded."""
    wire = read(_Body, body)
    if wire.n not in (None, 1):
        raise Refused(400, "n: one answer a call is recorded; ask again for another.")
    if wire.logit_bias:
        raise Refused(400, "logit_bias: the model's own distribution is recorded, and cannot be bent.")
    if wire.logprobs or wire.top_logprobs:
        raise Refused(400, "logprobs: they are for the record, and are not told here.")
    if wire.functions:
        raise Refused(400, "functions: they have become tools; say `tools`.")
    tools = [function(t.function.name, t.function.description, t.function.parameters) for t in wire.tools or ()]
    choice = wire.tool_choice
    if isinstance(choice, _Chosen):
        choice = choose(tools, choice.function.name)
    elif isinstance(choice, _Allowing):
        tools, choice = choice.allowed_tools.of(tools), choice.allowed_tools.mode
    sampling = set_fields(wire, *PASSED) | chosen(
        tools, tool_choice=choice, parallel_tool_calls=wire.parallel_tool_calls
    )
    if wire.response_format is not None and wire.response_format.type != "text":
        sampling["response_format"] = wire.response_format.model_dump(exclude_none=True)
    usage = wire.stream_options is not None and wire.stream_options.include_usage
    return Asked(
        messages=[_message(message) for message in wire.messages],
        tools=tools,
        sampling=sampling,
        stream=bool(wire.stream),
        model=wire.model,
        wants={"usage": usage},
    )


def answer(answered: Answered) -> dict[str, Any]:
    """The answer as a chat completion."""
    choice = {"index": 0, "message": _reply(answered), "logprobs": None, "finish_reason": finish_reason(answered.turn)}
    return {**_head(answered, "chat.completion"), "choices": [choice], "usage": _usage(answered.turn.usage)}


def events(answered: Answered) -> list[Event]:
    """The answer as the chunks of a stream: each text whole, each call whole, the reason last."""
    said = _reply(answered)
    calls = said.pop("tool_calls", [])
    deltas = [{"role": "assistant", "content": ""}]
    deltas += [{field: said[field]} for field in said if field not in ("role", "refusal") and said[field]]
    deltas += [{"tool_calls": [{"index": index, **call}]} for index, call in enumerate(calls)]
    head = _head(answered, "chat.completion.chunk")
    chunks = [{**head, "choices": [_choice(delta)]} for delta in deltas]
    chunks.append({**head, "choices": [_choice({}, finish_reason(answered.turn))]})
    if answered.asked.wants.get("usage"):
        chunks.append({**head, "choices": [], "usage": _usage(answered.turn.usage)})
    return [(None, chunk) for chunk in chunks]


def error(refused: Refused) -> dict[str, Any]:
    """The body of an error, as OpenAI words it."""
    kinds = {401: "authentication_error"}
    kind = "server_error" if refused.status >= 500 else kinds.get(refused.status, "invalid_request_error")
    return {"error": {"message": refused.message, "type": kind, "param": None, "code": refused.code}}


def failure(refused: Refused, asked: Asked, answer_id: str) -> list[Event]:
    """The end of a stream that cannot be answered any more."""
    return [(None, error(refused))]


def _message(wire: _Message) -> Message:
    if wire.role == "tool" and wire.tool_call_id is None:
        raise Refused(400, "messages: a tool's message needs the tool_call_id of the call that it answers.")
    if isinstance(wire.content, list):
        parts = [_part(part) for part in wire.content]
        body = joined(parts) if wire.role == "assistant" else content(parts)
    else:
        body = wire.content or wire.refusal or ""
    reasoning, reasoning_field = _reasoning(wire) if wire.role == "assistant" else (None, None)
    return Message(
        role=wire.role,
        content=body,
        tool_calls=tuple(
            ToolCall(id=c.id, name=c.function.name, arguments=c.function.arguments) for c in wire.tool_calls or ()
        ),
        tool_call_id=wire.tool_call_id,
        name=wire.name,
        reasoning=reasoning,
        reasoning_field=reasoning_field,
    )


def _part(part: _Text | _Image | _Refusal) -> Text | Image:
    if isinstance(part, _Image):
        return image(part.image_url.url)
    return Text(text=part.text if isinstance(part, _Text) else part.refusal)


def _reasoning(wire: _Message) -> tuple[Any, ReasoningField | None]:
    """(the reasoning, the field that it came in), by the order in which a client of ours looks for it."""
    for name in REASONING_FIELDS:
        said: Any = getattr(wire, name)
        kind = list if name == "reasoning_details" else str
        if said and isinstance(said, kind):
            return cast("Any", said), name
    return None, None


def _head(answered: Answered, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{answered.id}",
        "object": kind,
        "created": answered.created,
        "model": answered.asked.model,
        "system_fingerprint": None,
    }


def _reply(answered: Answered) -> dict[str, Any]:
    """The model's message as it came, its reasoning in the field that it came in."""
    reply = answered.turn.reply
    said = reply.content if isinstance(reply.content, str) else reply.text
    message: dict[str, Any] = {"role": "assistant", "content": said, "refusal": None}
    if reply.reasoning_field is not None:
        message = {reply.reasoning_field: reply.reasoning, **message}
    if reply.tool_calls:
        message["content"] = said or None
        message["tool_calls"] = [call.to_wire() for call in reply.tool_calls]
    return message


def _choice(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}


def _usage(usage: Usage | None) -> dict[str, Any]:
    used = usage or Usage()
    return {
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "total_tokens": used.prompt_tokens + used.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": used.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": used.reasoning_tokens},
    }


CHAT = Dialect(asked=asked, answer=answer, events=events, error=error, failure=failure, done=b"data: [DONE]\n\n")
