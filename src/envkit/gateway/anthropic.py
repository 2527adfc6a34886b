"""Anthropic's messages: a body as `Asked`, and the answer, whole or streamed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

import orjson
from pydantic import Field

from envkit.gateway.asked import (
    THINKS,
    Answered,
    Asked,
    Count,
    Dialect,
    Event,
    Name,
    Refused,
    Share,
    Wire,
    choose,
    chosen,
    content,
    finish_reason,
    function,
    joined,
    picture,
    read,
    set_fields,
)
from envkit.types import Content, Image, Message, Text, ToolCall, Usage

HOSTED = ("web_search_", "web_fetch_", "code_execution_", "tool_search_", "mcp_toolset")
"""Tools, by how their type begins, that Anthropic's servers would run: there are none here, so the model is not offered
them."""

BILLING = "x-anthropic-billing-header:"
"""A system block that begins so is Claude Code's note to Anthropic, another one at every call: it is no prompt."""

CHARACTERS_PER_TOKEN = 4
"""For `count_tokens`, which no model is asked for: about right for English and for code."""


class _Text(Wire):
    type: Literal["text"]
    text: str


class _Source(Wire):
    type: str
    media_type: str = ""
    data: str = ""


class _Image(Wire):
    type: Literal["image"]
    source: _Source


class _Document(Wire):
    type: Literal["document"]
    source: _Source
    title: str | None = None
    context: str | None = None


class _Thinking(Wire):
    type: Literal["thinking"]
    thinking: str


class _Redacted(Wire):
    type: Literal["redacted_thinking"]


class _Use(Wire):
    type: Literal["tool_use"]
    id: str
    name: Name
    input: dict[str, Any]


class _Reference(Wire):
    type: Literal["tool_reference"]


_Shown = Annotated[_Text | _Image | _Document | _Reference, Field(discriminator="type")]


class _Result(Wire):
    type: Literal["tool_result"]
    tool_use_id: str
    content: str | list[_Shown] | None = None


_Block = Annotated[_Text | _Image | _Document | _Thinking | _Redacted | _Use | _Result, Field(discriminator="type")]


class _Message(Wire):
    role: Literal["user", "assistant", "system"]
    content: str | list[_Block]


class _Tool(Wire):
    name: str = ""
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None


class _Choice(Wire):
    type: Literal["auto", "any", "tool", "none"]
    name: str = ""
    disable_parallel_tool_use: bool | None = None


class _Kind(Wire):
    type: str


class _Body(Wire):
    messages: list[_Message] = Field(min_length=1)
    model: str = ""
    system: str | list[_Text] | None = None
    tools: list[_Tool] | None = None
    tool_choice: _Choice | None = None
    thinking: _Kind | None = None
    max_tokens: Count | None = None
    temperature: Share | None = None
    top_p: Share | None = None
    stop_sequences: Annotated[list[str], Field(max_length=16)] | None = None
    stream: bool | None = None


def asked(body: dict[str, Any]) -> Asked:
    """What a body asks; Refused where it is none, or asks for what cannot be recorded."""
    wire = read(_Body, body)
    if wire.messages[-1].role == "assistant":
        raise Refused(400, "messages: an answer cannot be begun for the model; end with a user's message.")
    tools = [_declared(tool) for tool in wire.tools or () if not (tool.type or "").startswith(HOSTED)]
    sampling = set_fields(wire, "max_tokens", "temperature", "top_p") | _chosen(wire.tool_choice, tools)
    if wire.stop_sequences:
        sampling["stop"] = wire.stop_sequences
    thinks = wire.thinking is not None and wire.thinking.type != "disabled"
    return Asked(
        messages=[part for message in wire.messages for part in _messages(message)],
        tools=tools,
        sampling=sampling,
        stream=bool(wire.stream),
        model=wire.model,
        instructions=_system(wire.system),
        wants={"thinking": thinks},
    )


def answer(answered: Answered) -> dict[str, Any]:
    """The answer as a message."""
    return {
        "id": f"msg_{answered.id}",
        "type": "message",
        "role": "assistant",
        "model": answered.asked.model,
        "content": _blocks(answered),
        "stop_reason": _stop_reason(answered),
        "stop_sequence": None,
        "usage": _usage(answered.turn.usage),
    }


def events(answered: Answered) -> list[Event]:
    """The answer as a stream: each block begun, filled at once, and stopped."""
    whole = answer(answered)
    usage = whole["usage"]
    begun: dict[str, Any] = whole | {"content": [], "stop_reason": None, "usage": usage | {"output_tokens": 0}}
    told = [_event("message_start", message=begun)]
    calls = iter(answered.turn.reply.tool_calls)
    for index, block in enumerate(whole["content"]):
        start, deltas = _streamed(block, next(calls) if block["type"] == "tool_use" else None)
        told.append(_event("content_block_start", index=index, content_block=start))
        told += [_event("content_block_delta", index=index, delta=delta) for delta in deltas]
        told.append(_event("content_block_stop", index=index))
    delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    return [*told, _event("message_delta", delta=delta, usage=usage), _event("message_stop")]


def error(refused: Refused) -> dict[str, Any]:
    """The body of an error, as Anthropic words it."""
    kinds = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
             413: "request_too_large"}  # fmt: skip
    kind = "api_error" if refused.status >= 500 else kinds.get(refused.status, "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": refused.message}}


def failure(refused: Refused, asked: Asked, answer_id: str) -> list[Event]:
    """The end of a stream that cannot be answered any more."""
    return [("error", error(refused))]


def count_tokens(body: bytes) -> dict[str, Any]:
    """About how many tokens the prompt in a body has, for programs that look whether it still fits."""
    return {"input_tokens": len(body) // CHARACTERS_PER_TOKEN}


ANTHROPIC = Dialect(
    asked=asked, answer=answer, events=events, error=error, failure=failure, ping=("ping", {"type": "ping"})
)


def _system(said: str | list[_Text] | None) -> str:
    """The system prompt as one text: its blocks are paragraphs of it."""
    blocks = [said] if isinstance(said, str) else [block.text for block in said or ()]
    return "\n\n".join(block for block in blocks if not block.startswith(BILLING))


def _messages(wire: _Message) -> list[Message]:
    """The messages that one is: a tool's results are messages of their own, before what the user says beside them."""
    if isinstance(wire.content, str):
        return [Message(role=wire.role, content=wire.content)]
    if wire.role == "assistant":
        return [_reply(wire.content)]
    results = [block for block in wire.content if isinstance(block, _Result)]
    said = [_part(block) for block in wire.content if isinstance(block, _Text | _Image | _Document)]
    if len(results) + len(said) < len(wire.content):
        raise Refused(
            400, f"messages: only an assistant's message has blocks of thinking and tool_use, not a {wire.role}'s."
        )
    messages = [Message.tool(_content(result.content), result.tool_use_id) for result in results]
    return messages if results and not said else [*messages, Message(role=wire.role, content=content(said))]


def _reply(blocks: Sequence[_Block]) -> Message:
    thinking = "".join(block.thinking for block in blocks if isinstance(block, _Thinking))
    return Message(
        role="assistant",
        content=joined(Text(text=block.text) for block in blocks if isinstance(block, _Text)),
        tool_calls=tuple(
            ToolCall(id=block.id, name=block.name, arguments=orjson.dumps(block.input).decode())
            for block in blocks
            if isinstance(block, _Use)
        ),
        reasoning=thinking or None,
        reasoning_field=THINKS if thinking else None,
    )


def _part(block: _Text | _Image | _Document) -> Text | Image:
    if isinstance(block, _Text):
        return Text(text=block.text)
    if isinstance(block, _Document):
        if block.source.type != "text":
            raise Refused(400, f"A document's source must be text: {block.source.type[:100]!r} is not read here.")
        return Text(text="\n\n".join(filter(None, [block.title, block.context, block.source.data])))
    if block.source.type != "base64":
        raise Refused(400, "An image's source must be base64: no URL is fetched here.")
    return picture(block.source.data, block.source.media_type)


def _content(shown: str | Sequence[_Shown] | None) -> Content:
    if shown is None or isinstance(shown, str):
        return shown or ""
    return content(_part(block) for block in shown if not isinstance(block, _Reference))


def _declared(tool: _Tool) -> dict[str, Any]:
    if tool.type not in (None, "custom") and tool.input_schema is None:
        raise Refused(400, f"tools: a tool of type {str(tool.type)[:100]!r} is not known here: send its input_schema.")
    if not tool.name:
        raise Refused(400, "tools: a tool has no name.")
    return function(tool.name, tool.description, tool.input_schema)


def _chosen(choice: _Choice | None, tools: Sequence[dict[str, Any]]) -> dict[str, Any]:
    if choice is None:
        return {}
    kinds: dict[str, Any] = {"auto": "auto", "any": "required", "none": "none"}
    wanted = choose(tools, choice.name) if choice.type == "tool" else kinds[choice.type]
    return chosen(tools, tool_choice=wanted, parallel_tool_calls=False if choice.disable_parallel_tool_use else None)


def _blocks(answered: Answered) -> list[dict[str, Any]]:
    """The reply as blocks. Thinking is shown to a program that asked for it; the others do not look for it."""
    reply = answered.turn.reply
    blocks: list[dict[str, Any]] = []
    thinking = reply.thinking if answered.asked.wants.get("thinking") else ""
    if thinking:
        signature = hashlib.sha256(thinking.encode("utf-8", "surrogatepass")).hexdigest()
        blocks.append({"type": "thinking", "thinking": thinking, "signature": signature})
    if reply.text or not reply.tool_calls:
        blocks.append({"type": "text", "text": reply.text})
    blocks += [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": _input(call.arguments)}
        for call in reply.tool_calls
    ]
    return blocks


def _input(arguments: str) -> dict[str, Any]:
    """Arguments as the object that they must be here; what is none is handed on whole, for the program to refuse."""
    try:
        said = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        said = None
    return cast("dict[str, Any]", said) if isinstance(said, dict) else {"input": arguments}


def _streamed(block: dict[str, Any], call: ToolCall | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(the block as it begins, the deltas that fill it); a call's arguments as the model wrote them."""
    match block["type"]:
        case "text":
            return block | {"text": ""}, [{"type": "text_delta", "text": block["text"]}]
        case "thinking":
            return block | {"thinking": "", "signature": ""}, [
                {"type": "thinking_delta", "thinking": block["thinking"]},
                {"type": "signature_delta", "signature": block["signature"]},
            ]
        case _:
            written = call is not None and _input(call.arguments) != {"input": call.arguments}
            said = call.arguments if call and written else orjson.dumps(block["input"]).decode()
            return block | {"input": {}}, [{"type": "input_json_delta", "partial_json": said}]


def _stop_reason(answered: Answered) -> str:
    reason = finish_reason(answered.turn)
    return {"tool_calls": "tool_use", "length": "max_tokens", "content_filter": "refusal"}.get(reason, "end_turn")


def _event(kind: str, **fields: Any) -> Event:
    return kind, {"type": kind, **fields}


def _usage(usage: Usage | None) -> dict[str, Any]:
    used = usage or Usage()
    return {
        "input_tokens": max(0, used.prompt_tokens - used.cached_tokens),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": used.cached_tokens,
        "output_tokens": used.completion_tokens,
    }
