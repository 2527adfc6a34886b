"""Messages and their parts: the form on the wire, thinking and answer, images, and the round trip of the record."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from envkit import Image, Message
from envkit.types import Record, Text, ToolCall, Usage, split_thinking

PNG = b"\x89PNG\r\n"
CALL = ToolCall(id="1", name="add", arguments='{"b" :2,  "a":1.0}')


@pytest.mark.parametrize(
    ("text", "thinking", "answer"),
    [
        ("four", "", "four"),
        ("", "", ""),
        ("<think>two and two</think>four", "two and two", "four"),
        ("<think>\ntwo and two\n</think>\n\nfour\n", "two and two", "four\n"),
        ("two and two</think>four", "two and two", "four"),
        ("<think>so</think>no<think>wait</think>four", "so</think>no<think>wait", "four"),
        ("<think>two and", "two and", ""),
        ("hm <think>two and", "two and", ""),
        ("<think>so</think>no<think>wait", "sowait", ""),
        ("<think></think>four", "", "four"),
        ("<think>done</think>", "done", ""),
    ],
)
def test_thinking_ends_at_the_last_close_and_an_open_one_leaves_no_answer(
    text: str, thinking: str, answer: str
) -> None:
    assert split_thinking(text) == (thinking, answer)
    reply = Message.assistant(text)
    assert (reply.thinking, reply.text, reply.content) == (thinking, answer, text)


@given(st.text())
def test_only_an_assistant_thinks(text: str) -> None:
    assert Message.user(f"<think>{text}").text == f"<think>{text}"
    assert Message.tool(f"{text}</think>", "1").text == f"{text}</think>"


def test_the_text_of_parts_is_their_text_put_together() -> None:
    assert Message.user((Text(text="a"), Image.of(PNG), Text(text="b"))).text == "ab"
    assert Message.assistant((Text(text="<think>a"), Text(text="</think>b"))).text == "b"


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        (Message.system("s"), {"role": "system", "content": "s"}),
        (Message.user(""), {"role": "user", "content": ""}),
        (
            Message.user((Text(text="see"), Image(url="https://x/y.png"))),
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "see"},
                    {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
                ],
            },
        ),
        (Message.tool("3", "1"), {"role": "tool", "content": "3", "tool_call_id": "1"}),
        (Message(role="user", content="hi", name="ann"), {"role": "user", "content": "hi", "name": "ann"}),
        (
            Message.assistant("", (CALL,)),
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"b" :2,  "a":1.0}'}}
                ],
            },
        ),
    ],
)
def test_the_form_on_the_wire(message: Message, wire: dict[str, Any]) -> None:
    assert message.to_wire() == wire


@pytest.mark.parametrize(
    ("field", "reasoning"),
    [
        ("reasoning", "two and two"),
        ("reasoning_content", "two and two"),
        ("reasoning_details", [{"type": "reasoning.text", "text": "two ", "signature": "x"}, {"summary": "and two"}]),
        ("reasoning_details", [None, {"text": "two and two"}, 2]),
    ],
)
def test_reasoning_goes_back_in_the_field_and_form_it_came_in(field: Any, reasoning: Any) -> None:
    reply = Message(role="assistant", content="four", reasoning=reasoning, reasoning_field=field)
    assert reply.to_wire() == {"role": "assistant", "content": "four", field: reasoning}
    assert (reply.thinking, reply.text) == ("two and two", "four")
    assert Message.model_validate_json(reply.model_dump_json(exclude_defaults=True)) == reply


def test_an_image_is_named_by_its_bytes_and_recorded_without_them() -> None:
    image = Image.of(PNG)
    record = image.model_dump_json()
    assert base64.b64encode(PNG).decode() not in record
    assert image.digest is not None
    assert image.digest in record
    again = Image.model_validate_json(record)
    assert (again, again.data) == (image, None)
    assert hash(again) == hash(image)
    assert again != Image.of(b"other")
    with pytest.raises(ValueError, match="are not loaded"):
        again.to_wire()
    loaded = again.with_data(PNG)
    assert loaded.data == PNG
    assert loaded.to_wire()["image_url"]["url"] == "data:image/png;base64," + base64.b64encode(PNG).decode()
    with pytest.raises(ValueError, match="does not have the digest"):
        again.with_data(b"other")


def test_an_image_file_has_the_type_of_its_name(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\xff\xd8")
    image = Image.read(path)
    assert (image.media_type, image.data) == ("image/jpeg", b"\xff\xd8")
    assert image.to_wire()["image_url"]["url"].startswith("data:image/jpeg;base64,")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
# Names that a newer envkit, or a provider, may add to any record; some are another record's own.
new_fields = st.dictionaries(st.sampled_from(["url", "digest", "text", "cache_control", "détail"]), json_values)


def grown(kind: type[Record], **own: Any) -> st.SearchStrategy[Any]:
    """Records of this kind with unknown fields beside their own."""
    return new_fields.map(lambda extra: kind.model_validate({**extra, **own}))


parts = st.one_of(
    grown(Text, text="see"),
    grown(Image, digest="sha256:0", url=None),
    grown(Image, url="https://x/y.png", digest=None),
    st.just(Image.of(PNG)),
)
some_messages = st.builds(
    lambda role, content, calls, extra: Message.model_validate(
        {**extra, "role": role, "content": content, "tool_calls": calls}
    ),
    st.sampled_from(["system", "developer", "user", "assistant", "tool"]),
    st.text() | st.lists(parts, max_size=3).map(tuple),
    st.lists(grown(ToolCall, id="1", name="f", arguments="{}"), max_size=2).map(tuple),
    new_fields,
)


@given(some_messages)
def test_the_record_of_a_message_is_lossless(message: Message) -> None:
    for record in (message.model_dump_json(), message.model_dump_json(exclude_defaults=True)):
        again = Message.model_validate_json(record)
        assert again == message
        assert hash(again) == hash(message)
        for before, after in zip(message.content, again.content, strict=True):
            assert type(before) is type(after)
            if not isinstance(before, str) and not isinstance(after, str):
                assert before.model_extra == after.model_extra


def test_a_part_stays_what_it_is_whatever_a_newer_record_adds() -> None:
    text = Text.model_validate({"text": "x", "url": "u", "digest": "sha256:0", "media_type": "image/gif"})
    image = Image.model_validate({"url": "u", "text": "x"})
    message = Message.user((text, image))
    again = Message.model_validate_json(message.model_dump_json(exclude_defaults=True))
    assert [type(part) for part in again.content] == [Text, Image]
    assert again == message


def test_parts_are_also_read_without_their_type() -> None:
    message = Message.model_validate({"role": "user", "content": [{"text": "x"}, {"digest": "sha256:0"}]})
    assert message.content == (Text(text="x"), Image(digest="sha256:0"))


def test_records_are_frozen() -> None:
    for record, name in ((Message.user("x"), "content"), (Text(text="x"), "text"), (Usage(), "prompt_tokens")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(record, name, "y")
