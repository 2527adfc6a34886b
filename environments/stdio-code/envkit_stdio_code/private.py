"""LiveCodeBench's hidden tests: JSON, or base64 of zlib of a pickle of JSON, read without running what a pickle can.

A pickle is a program that may call anything. This reader knows no names to call, so all that can come of it is plain
data, of which only text is taken.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import pickle
import zlib
from typing import Any

LARGEST = 1 << 30
"""Bytes that a task's tests may be unpacked: those of the dataset stay below 200 MB."""


class Refused(ValueError):
    """What is packed is not text."""


def decoded(packed: str) -> list[dict[str, str]]:
    """The tests; ValueError, saying what is wrong, where they are no JSON under those layers."""
    text = packed if packed.lstrip()[:1] == "[" else _unpacked(packed)
    tests = json.loads(text)
    if not isinstance(tests, list):
        raise Refused(f"the tests are a JSON {type(tests).__name__}, not a list")
    return tests


def _unpacked(packed: str) -> str:
    try:
        unzip = zlib.decompressobj()
        data = unzip.decompress(base64.b64decode(packed, validate=True), LARGEST)
    except (binascii.Error, zlib.error) as error:
        raise Refused(f"the tests are neither JSON nor base64 of zlib ({error})") from None
    if not unzip.eof:
        raise Refused(f"the tests are cut short, or unpack to more than {LARGEST:,} bytes")
    try:
        text = _Text(io.BytesIO(data)).load()
    except Refused:
        raise
    except Exception as error:  # noqa: BLE001 - a broken pickle raises whatever it likes
        raise Refused(f"the tests are no pickle of text ({type(error).__name__})") from None
    if not isinstance(text, str):
        raise Refused(f"the pickle holds a {type(text).__name__}, not text")
    return text


class _Text(pickle.Unpickler):
    """Builds plain data only: every name that a pickle asks for is refused, so that nothing can be called."""

    def find_class(self, module: str, name: str, /) -> Any:
        raise Refused(f"the tests are a pickle that asks for {module}.{name}: refused")

    def persistent_load(self, pid: Any, /) -> Any:
        raise Refused("the tests are a pickle that asks for an object from elsewhere: refused")
