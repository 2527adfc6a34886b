"""Docstrings in three hands say the same of a function and its parameters."""

import pytest

from envkit.docstrings import described

GOOGLE = """Find a book.

In the whole library.

Args:
    title (str): What is on
        its cover.
    *shelves: Where to look.

Returns:
    title: not a parameter
"""
NUMPY = """Find a book.

In the whole library.

Parameters
----------
title : str
    What is on
    its cover.
shelves
    Where to look.

Returns
-------
title
    not a parameter
"""
SPHINX = """Find a book.

In the whole library.

:param str title: What is on
    its cover.
:type title: str
:param shelves: Where to look.
:returns: title: not a parameter
"""


@pytest.mark.parametrize("text", [GOOGLE, NUMPY, SPHINX], ids=["google", "numpy", "sphinx"])
def test_each_hand_is_read(text: str) -> None:
    about = {"title": "What is on its cover.", "shelves": "Where to look."}
    assert described(text) == ("Find a book.\n\nIn the whole library.", about)


def test_numpy_may_describe_two_at_once() -> None:
    assert described("Add.\n\nParameters\n----------\na, b : int\n    A number.\n")[1] == {
        "a": "A number.",
        "b": "A number.",
    }


@pytest.mark.parametrize("text", ["", "Find a book.", "Find: a book.\nArgs: none", "Args\n---"])
def test_a_text_without_sections_is_the_description(text: str) -> None:
    assert described(text) == (text, {})
