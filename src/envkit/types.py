"""What travels between an environment and a model: messages, their parts, tool calls and usage.

All are frozen records with a lossless JSON round trip; fields that a newer envkit wrote survive.
"""

from __future__ import annotations

import base64
import hashlib
import mimetypes
from pathlib import Path
from typing import Any, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, PrivateAttr, SerializerFunctionWrapHandler, model_serializer

Role = Literal["system", "developer", "user", "assistant", "tool"]


class Record(BaseModel):
    """A frozen piece of the record; unknown fields are kept."""

    model_config = ConfigDict(frozen=True, extra="allow", ser_json_inf_nan="constants")


class Part(Record):
    """A part of a message; its record always says which kind it is, also where defaults are left out."""

    type: Any

    @model_serializer(mode="wrap")
    def _with_type(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {"type": self.type, **write(self)}


class Text(Part):
    """A text part of a message."""

    type: Literal["text"] = "text"
    text: str

    def to_wire(self) -> dict[str, Any]:
        return {"type": "text", "text": self.text}


class Image(Part):
    """An image part: bytes named by their digest (the record carries only that), or a URL.

    Build one with `Image.of(bytes)`, `Image.read(path)` or `Image(url=...)`.
    """

    type: Literal["image"] = "image"
    media_type: str = "image/png"
    digest: str | None = None
    url: str | None = None
    _data: bytes | None = PrivateAttr(default=None)

    @classmethod
    def of(cls, data: bytes, media_type: str = "image/png") -> Self:
        """The image with these bytes."""
        image = cls(media_type=media_type, digest="sha256:" + hashlib.sha256(data).hexdigest())
        image._data = data
        return image

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """The image in this file; its type is told by the file's name."""
        return cls.of(Path(path).read_bytes(), mimetypes.guess_type(str(path))[0] or "image/png")

    @property
    def data(self) -> bytes | None:
        """The bytes; None for a URL, and for an image read from a record whose blob was not loaded."""
        return self._data

    def with_data(self, data: bytes) -> Self:
        """This image with its bytes from the blob store; refuses bytes of another digest."""
        image = type(self).of(data, self.media_type)
        if image.digest != self.digest:
            raise ValueError(f"the blob does not have the digest {self.digest}")
        return image

    def load(self, data: bytes) -> None:
        """Take these bytes from the blob store, where a record has only their digest; refuses those of another."""
        self._data = self.with_data(data).data

    def to_wire(self) -> dict[str, Any]:
        if self.url is not None:
            return {"type": "image_url", "image_url": {"url": self.url}}
        if self._data is None:
            raise ValueError(f"the bytes of image {self.digest} are not loaded")
        encoded = base64.b64encode(self._data).decode()
        return {"type": "image_url", "image_url": {"url": f"data:{self.media_type};base64,{encoded}"}}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Image) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[str, str | None, str | None]:
        return (self.media_type, self.digest, self.url)


Content = str | tuple[Text | Image, ...]


class ToolCall(Record):
    """A call that the model asked for; `arguments` is its JSON, byte for byte as it came."""

    id: str
    name: str
    arguments: str

    def to_wire(self) -> dict[str, Any]:
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


class Message(Record):
    """One message of a chat.

    `content` is what was sent or came, unchanged. `text` is the part of it that counts as said: where the
    server left the thinking in the content, only what follows the last `</think>`.
    """

    role: Role
    content: Content = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    reasoning: Any = None
    """What the server gave as reasoning: text, or the list of `reasoning_details`; echoed as it came."""
    reasoning_field: Literal["reasoning", "reasoning_content", "reasoning_details"] | None = None

    def __hash__(self) -> int:
        return hash((self.role, self.content, self.tool_calls, self.tool_call_id))

    @classmethod
    def system(cls, content: Content) -> Self:
        return cls(role="system", content=content)

    @classmethod
    def user(cls, content: Content) -> Self:
        return cls(role="user", content=content)

    @classmethod
    def assistant(cls, content: Content = "", tool_calls: tuple[ToolCall, ...] = ()) -> Self:
        return cls(role="assistant", content=content, tool_calls=tool_calls)

    @classmethod
    def tool(cls, content: Content, tool_call_id: str) -> Self:
        return cls(role="tool", content=content, tool_call_id=tool_call_id)

    @property
    def text(self) -> str:
        """The text of the content; of an assistant's, without its thinking ("" while that is unclosed)."""
        whole = self._whole_text()
        return split_thinking(whole)[1] if self.role == "assistant" else whole

    @property
    def thinking(self) -> str:
        """The reasoning as text, whichever way the server gave it; "" where there is none."""
        if isinstance(self.reasoning, str):
            return self.reasoning
        if isinstance(self.reasoning, list):
            parts = cast("list[Any]", self.reasoning)  # pyright: ignore[reportUnknownMemberType]
            details = [cast("dict[str, Any]", part) for part in parts if isinstance(part, dict)]
            return "".join(str(part.get("text") or part.get("summary") or "") for part in details)
        return split_thinking(self._whole_text())[0]

    @property
    def images(self) -> list[Image]:
        """The images in the content."""
        return [] if isinstance(self.content, str) else [part for part in self.content if isinstance(part, Image)]

    def _whole_text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content if isinstance(part, Text))

    def to_wire(self) -> dict[str, Any]:
        """The message in the form of an OpenAI chat completion request."""
        content = self.content if isinstance(self.content, str) else [part.to_wire() for part in self.content]
        wire: dict[str, Any] = {"role": self.role, "content": content}
        if self.tool_calls:
            wire["tool_calls"] = [call.to_wire() for call in self.tool_calls]
            wire["content"] = content or None
        if self.tool_call_id is not None:
            wire["tool_call_id"] = self.tool_call_id
        if self.name is not None:
            wire["name"] = self.name
        if self.reasoning_field is not None:
            wire[self.reasoning_field] = self.reasoning
        return wire


def split_thinking(text: str) -> tuple[str, str]:
    """(thinking, answer): split at the last `</think>`; an unclosed `<think>` leaves no answer."""
    before, closed, after = text.rpartition("</think>")
    if "<think>" in after:
        opened = after.index("<think>")
        return before.replace("<think>", "", 1) + after[opened + len("<think>") :], ""
    if not closed:
        return "", text
    return before.replace("<think>", "", 1).strip("\n"), after.lstrip("\n")


class Usage(Record):
    """Tokens of one call, as the server counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0
