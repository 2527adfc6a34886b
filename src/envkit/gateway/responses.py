"""OpenAI's responses: a body as `Asked`, and the answer, whole or streamed.

An assistant's message of ours is several items here: its reasoning, its text, its calls.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

import orjson
from pydantic import Discriminator, Field, Tag

from envkit.gateway.asked import (
    THINKS,
    Allowed,
    Answered,
    Asked,
    Count,
    Dialect,
    Event,
    Name,
    Refused,
    Share,
    Temperature,
    Wire,
    choose,
    chosen,
    content,
    function,
    image,
    joined,
    read,
    set_fields,
)
from envkit.gateway.chat import error
from envkit.types import Content, Image, Message, Role, Text, ToolCall, Usage

HOSTED = ("web_search", "file_search", "code_interpreter", "image_generation", "mcp", "tool_search")
"""Tools, by how their type begins, that OpenAI's servers would run: there are none here, so the model is not offered
them."""

LOGPROBS = "message.output_text.logprobs"
ENCRYPTED = "reasoning.encrypted_content"


class _Text(Wire):
    type: Literal["input_text", "output_text", "text", "summary_text", "reasoning_text"]
    text: str


class _Image(Wire):
    type: Literal["input_image"]
    image_url: str


class _Refusal(Wire):
    """What OpenAI's models say in place of an answer: text, as every answer is here."""

    type: Literal["refusal"]
    refusal: str


_Parts = str | list[Annotated[_Text | _Image | _Refusal, Field(discriminator="type")]]


class _Message(Wire):
    role: Role
    content: _Parts


class _Call(Wire):
    call_id: str
    name: Name
    arguments: str
    namespace: str | None = None


class _CustomCall(Wire):
    call_id: str
    name: Name
    input: str
    namespace: str | None = None


class _Result(Wire):
    call_id: str
    output: _Parts


class _Reasoning(Wire):
    summary: list[_Text] | None = None
    content: list[_Text] | None = None
    encrypted_content: str | None = None


def _kind(item: Any) -> str:
    """An item without a type is a message."""
    return str(cast("dict[str, Any]", item).get("type", "message")) if isinstance(item, dict) else ""


_Item = Annotated[
    Annotated[_Message, Tag("message")]
    | Annotated[_Call, Tag("function_call")]
    | Annotated[_CustomCall, Tag("custom_tool_call")]
    | Annotated[_Result, Tag("function_call_output")]
    | Annotated[_Result, Tag("custom_tool_call_output")]
    | Annotated[_Reasoning, Tag("reasoning")],
    Discriminator(_kind),
]


class _Tool(Wire):
    type: str
    name: str = ""
    description: str | None = None
    parameters: dict[str, Any] | None = None
    tools: list[_Tool] | None = None


class _Chosen(Allowed):
    type: str
    name: str = ""


class _Format(Wire):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class _TextOptions(Wire):
    format: _Format | None = None


class _Body(Wire):
    input: str | list[_Item]
    model: str = ""
    instructions: str | None = None
    tools: list[_Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | _Chosen | None = None
    parallel_tool_calls: bool | None = None
    text: _TextOptions | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    max_output_tokens: Count | None = None
    stream: bool | None = None
    include: list[str] | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    background: bool | None = None
    conversation: Any = None
    prompt: Any = None
    top_logprobs: int | None = None


def asked(body: dict[str, Any]) -> Asked:
    """What a body asks; Refused where it is none, or asks for what cannot be recorded."""
    wire = read(_Body, body)
    for name in ("background", "conversation", "prompt"):
        if getattr(wire, name):
            raise Refused(400, f"{name}: nothing is kept here beyond this rollout; send the input itself.")
    if wire.top_logprobs or LOGPROBS in (wire.include or ()):
        raise Refused(400, "logprobs: they are for the record, and are not told here.")
    messages = _messages(wire.input)
    if not (messages or wire.previous_response_id):
        raise Refused(400, "input: there is nothing to answer.")
    offered = _offered(wire.tools or ())
    tools = [_declared(tool, name) for name, (_, tool) in offered.items()]
    choice = wire.tool_choice
    if isinstance(choice, _Chosen) and choice.type == "allowed_tools":
        tools, choice = choice.of(tools), choice.mode
    elif isinstance(choice, _Chosen):
        choice = choose(tools, choice.name)
    sampling = set_fields(wire, "temperature", "top_p") | chosen(
        tools, tool_choice=choice, parallel_tool_calls=wire.parallel_tool_calls
    )
    if wire.max_output_tokens is not None:
        sampling["max_tokens"] = wire.max_output_tokens
    if wire.text is not None and wire.text.format is not None and wire.text.format.type != "text":
        sampling["response_format"] = _format(wire.text.format)
    return Asked(
        messages=messages,
        tools=tools,
        sampling=sampling,
        stream=bool(wire.stream),
        model=wire.model,
        previous=wire.previous_response_id,
        continued=wire.store is not False,
        instructions=wire.instructions or "",
        wants={
            "called": {name: (space, tool.name, tool.type) for name, (space, tool) in offered.items()},
            "hidden": ENCRYPTED in (wire.include or ()),
        },
    )


def answer(answered: Answered) -> dict[str, Any]:
    """The answer as a response."""
    turn = answered.turn
    cut = turn.finish_reason in ("length", "content_filter")
    reason = "max_output_tokens" if turn.finish_reason == "length" else "content_filter"
    return {
        **_head(answered.asked, answered.id, answered.created),
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": reason} if cut else None,
        "output": _output(answered),
        "usage": _usage(turn.usage),
    }


def opening(asked: Asked, answer_id: str, created: int) -> list[Event]:
    """How a stream begins, before there is an answer."""
    begun = _head(asked, answer_id, created)
    return [_event("response.created", response=begun), _event("response.in_progress", response=begun)]


def events(answered: Answered) -> list[Event]:
    """What follows the opening: each item as it is added, its text at once, and the whole response."""
    whole = answer(answered)
    told: list[Event] = []
    for index, item in enumerate(whole["output"]):
        told += _item_events(index, item)
    kind = "response.completed" if whole["status"] == "completed" else "response.incomplete"
    return [*told, _event(kind, response=whole)]


def failure(refused: Refused, asked: Asked, answer_id: str) -> list[Event]:
    """The end of a stream that cannot be answered any more: for programs that read either of the two."""
    code = refused.code or "server_error"
    failed = _head(asked, answer_id, 0) | {"status": "failed", "error": {"code": code, "message": refused.message}}
    return [
        _event("response.failed", response=failed),
        _event("error", code=code, message=refused.message, param=None),
    ]


RESPONSES = Dialect(
    asked=asked,
    answer=answer,
    events=events,
    error=error,
    failure=failure,
    opening=opening,
    ping=("keepalive", {"type": "keepalive"}),
    numbered=True,
)


def _messages(items: str | Sequence[Any]) -> list[Message]:
    """The messages of items; neighbours that one reply was told as become one message again."""
    if isinstance(items, str):
        return [Message.user(items)]
    messages: list[Message] = []
    reply: dict[str, Any] = {}

    def flush() -> None:
        if reply:
            messages.append(Message(role="assistant", **reply))
            reply.clear()

    for item in items:
        match item:
            case _Reasoning():
                flush()
                if thought := _thought(item):
                    reply.update(reasoning=thought, reasoning_field=THINKS)
            case _Message(role="assistant"):
                if reply.get("content") or "tool_calls" in reply:
                    flush()
                reply["content"] = joined(_parts(item.content))
            case _Call() | _CustomCall():
                arguments = item.arguments if isinstance(item, _Call) else orjson.dumps({"input": item.input}).decode()
                call = ToolCall(id=item.call_id, name=_full(item.namespace, item.name), arguments=arguments)
                reply["tool_calls"] = (*reply.get("tool_calls", ()), call)
            case _Result():
                flush()
                messages.append(Message.tool(_content(item.output), item.call_id))
            case _:
                flush()
                role = "system" if item.role == "developer" else item.role  # which chat templates know
                messages.append(Message(role=role, content=_content(item.content)))
    flush()
    return messages


def _parts(said: _Parts) -> list[Text | Image]:
    if isinstance(said, str):
        return [Text(text=said)]
    return [_part(part) for part in said]


def _part(part: _Text | _Image | _Refusal) -> Text | Image:
    if isinstance(part, _Image):
        return image(part.image_url)
    return Text(text=part.text if isinstance(part, _Text) else part.refusal)


def _content(said: _Parts) -> Content:
    return said if isinstance(said, str) else content(_parts(said))


def _thought(item: _Reasoning) -> str:
    """The text of reasoning that comes back: what was hidden in it, else what it shows."""
    if item.encrypted_content is not None:
        try:
            return base64.b64decode(item.encrypted_content, validate=True).decode()
        except (binascii.Error, ValueError):
            pass  # another server's, which nobody else can read
    return "".join(part.text for part in item.content or item.summary or ())


def _full(namespace: str | None, name: str) -> str:
    """The name by which the model knows a tool of a namespace."""
    return f"{namespace.removesuffix('__')}__{name}" if namespace else name


def _offered(tools: Sequence[_Tool]) -> dict[str, tuple[str | None, _Tool]]:
    """The tools that the program runs, and the namespace of each, by the name that the model calls."""
    offered: dict[str, tuple[str | None, _Tool]] = {}
    for tool in tools:
        inner = [(tool.name, part) for part in tool.tools or ()] if tool.type == "namespace" else [(None, tool)]
        offered |= {_full(space, t.name): (space, t) for space, t in inner if not t.type.startswith(HOSTED)}
    return offered


def _declared(tool: _Tool, name: str) -> dict[str, Any]:
    if tool.type == "function" and tool.name:
        return function(name, tool.description, tool.parameters)
    if tool.type == "custom" and tool.name:
        properties = {"input": {"type": "string"}}
        return function(name, tool.description, {"type": "object", "properties": properties, "required": ["input"]})
    raise Refused(400, f"tools: a tool of type {tool.type[:100]!r} is not known here: say type 'function', and a name.")


def _format(wanted: _Format) -> dict[str, Any]:
    if wanted.type == "json_object":
        return {"type": "json_object"}
    schema = {"name": wanted.name or "answer", "schema": wanted.schema_ or {}, "strict": wanted.strict}
    return {"type": "json_schema", "json_schema": {name: value for name, value in schema.items() if value is not None}}


def _head(asked: Asked, answer_id: str, created: int) -> dict[str, Any]:
    return {
        "id": f"resp_{answer_id}",
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": asked.model,
        "output": [],
        "parallel_tool_calls": asked.sampling.get("parallel_tool_calls", True),
        "previous_response_id": asked.previous,
        "temperature": asked.sampling.get("temperature"),
        "tool_choice": "auto",
        "tools": [],
        "top_p": asked.sampling.get("top_p"),
        "usage": None,
    }


def _output(answered: Answered) -> list[dict[str, Any]]:
    reply, wants = answered.turn.reply, answered.asked.wants
    items: list[dict[str, Any]] = []
    if thinking := reply.thinking:
        shown = {"type": "reasoning_text", "text": thinking}
        item = {
            "type": "reasoning",
            "id": f"rs_{answered.id}",
            "summary": [],
            "content": [shown],
            "status": "completed",
        }
        hidden = base64.b64encode(thinking.encode()).decode() if wants.get("hidden") else None
        items.append({**item, "encrypted_content": hidden})
    if reply.text or not reply.tool_calls:
        said: dict[str, Any] = {"type": "output_text", "text": reply.text, "annotations": [], "logprobs": []}
        item = {"type": "message", "id": f"msg_{answered.id}", "role": "assistant", "status": "completed"}
        items.append({**item, "content": [said]})
    for index, call in enumerate(reply.tool_calls):
        namespace, name, kind = wants["called"].get(call.name, (None, call.name, "function"))
        told = {"call_id": call.id, "name": name, "status": "completed"}
        if namespace is not None:
            told["namespace"] = namespace
        if kind == "custom":
            items.append(
                {"type": "custom_tool_call", "id": f"ctc_{answered.id}_{index}", **told, "input": _input(call)}
            )
        else:
            item = {"type": "function_call", "id": f"fc_{answered.id}_{index}", **told}
            items.append({**item, "arguments": call.arguments})
    return items


def _input(call: ToolCall) -> str:
    """What a custom tool is given: the text in the arguments, or all of them where the model did not keep to that."""
    try:
        said = orjson.loads(call.arguments)
    except orjson.JSONDecodeError:
        return call.arguments
    match said:
        case {"input": str(text), **others} if not others:
            return text
        case _:
            return call.arguments


def _item_events(index: int, item: dict[str, Any]) -> list[Event]:
    """How one item is streamed: added empty, filled, done."""
    at = {"item_id": item["id"], "output_index": index}
    empty: dict[str, Any] = (
        {"content": []} if item["type"] in ("message", "reasoning") else {"arguments": "", "input": ""}
    )
    begun: dict[str, Any] = (
        item | {name: value for name, value in empty.items() if name in item} | {"status": "in_progress"}
    )
    told = [_event("response.output_item.added", output_index=index, item=begun)]
    match item["type"]:
        case "function_call":
            name = "response.function_call_arguments"
            told.append(_event(f"{name}.delta", **at, delta=item["arguments"]))
            told.append(_event(f"{name}.done", **at, arguments=item["arguments"], name=item["name"]))
        case "custom_tool_call":
            name = "response.custom_tool_call_input"
            told.append(_event(f"{name}.delta", **at, delta=item["input"]))
            told.append(_event(f"{name}.done", **at, input=item["input"]))
        case kind:
            part, at = item["content"][0], at | {"content_index": 0}
            name = "response.output_text" if kind == "message" else "response.reasoning_text"
            more: dict[str, Any] = {"logprobs": []} if kind == "message" else {}
            told += [
                _event("response.content_part.added", **at, part=part | {"text": ""}),
                _event(f"{name}.delta", **at, delta=part["text"], **more),
                _event(f"{name}.done", **at, text=part["text"], **more),
                _event("response.content_part.done", **at, part=part),
            ]
    return [*told, _event("response.output_item.done", output_index=index, item=item)]


def _event(kind: str, **fields: Any) -> Event:
    return kind, {"type": kind, **fields}


def _usage(usage: Usage | None) -> dict[str, Any]:
    used = usage or Usage()
    return {
        "input_tokens": used.prompt_tokens,
        "input_tokens_details": {"cached_tokens": used.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": used.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": used.reasoning_tokens},
        "total_tokens": used.prompt_tokens + used.completion_tokens,
    }
