from __future__ import annotations

import pytest

from envkit.verify.code import extract


def source(reply: str, **options: str) -> str | None:
    found = extract(reply, **options)
    if found is not None and found.span is not None and "\n  " not in reply:
        assert reply[slice(*found.span)] == found.source
    return None if found is None else found.source


def test_takes_the_last_block_of_the_language() -> None:
    reply = "First:\n```python\na = 1\n```\nbetter:\n```py\na = 2\n```\nprints\n```text\n2\n```\n"
    assert source(reply) == "a = 2\n"


def test_prefers_the_block_that_defines_the_entry_point() -> None:
    reply = "```python\ndef solve(x):\n    return x\n```\nFor example:\n```python\nprint(solve(3))\n```"
    assert source(reply, must_define="solve") == "def solve(x):\n    return x\n"
    assert source(reply) == "print(solve(3))\n"


def test_knows_methods_classes_and_assignments() -> None:
    method = "```python\nclass Solution:\n    def two_sum(self, a):\n        return a\n```\n"
    reply = method + "```python\nSolution().two_sum(1)\n```"
    assert (source(reply, must_define="Solution().two_sum") or "").startswith("class")
    assert source("```\nadd = lambda a, b: a + b\n```\n```\nx\n```", must_define="add") == "add = lambda a, b: a + b\n"
    assert source("```\nif add == 1: pass\n```\n```python\nx\n```", must_define="add") == "x\n"


@pytest.mark.parametrize(
    "code", ["function add(a, b) {}\n", "const add = (a, b) => a\n", "export async function add() {}\n"]
)
def test_knows_functions_of_javascript(code: str) -> None:
    reply = f"```javascript\n{code}```\n```js\nconsole.log(add(1, 2))\n```"
    assert source(reply, language="javascript", must_define="add") == code


def test_an_unclosed_fence_reaches_to_the_end_or_to_the_next() -> None:
    assert source("So:\n```python\nx = 1\ny = 2") == "x = 1\ny = 2"
    assert source("```python\nx = 1\n```python\ny = 2\n```") == "y = 2\n"


def test_thinking_is_no_answer() -> None:
    assert source("<think>```python\nwrong\n```</think>\n```python\nright\n```") == "right\n"
    assert source("<think>\n```python\nx = 1\n```\nbut") is None
    assert source("```python\nopened at the start by the template\n```</think> I do not know.") is None


def test_a_tag_in_a_program_is_text() -> None:
    assert source("```python\nprint('<think>')\n```") == "print('<think>')\n"


def test_a_block_in_a_list_loses_its_indentation() -> None:
    assert source("1. Do:\n\n   ```python\n   if x:\n       y()\n   ```\n") == "if x:\n    y()\n"
    assert source("- ```python\n  x = 1\n  ```\n") == "x = 1\n"


def test_longer_and_other_fences_hold_shorter_ones() -> None:
    assert source("~~~python\ns = '''\n```\n'''\n~~~") == "s = '''\n```\n'''\n"
    assert source("````python\n# ```\nx = 1\n```\ny = 2\n````") == "# ```\nx = 1\n```\ny = 2\n"


def test_a_fence_deep_in_a_docstring_is_text() -> None:
    code = 'def f():\n    """\n    ```python\n    f()\n    ```\n    """\n    return 1\n'
    assert source(f"```python\n{code}```\n", must_define="f") == code


def test_the_span_is_where_the_program_stands() -> None:
    reply = "é\r\n```python\r\nx = 1\r\n```\r\n"
    found = extract(reply)
    assert found is not None
    assert found.span is not None
    assert reply[slice(*found.span)] == found.source == "x = 1\r\n"


@pytest.mark.parametrize("reply", ["", "no code", "`x = 1`", "```", "```python\n```", "```python\n\n\n```"])
def test_none_where_there_is_no_program(reply: str) -> None:
    assert source(reply) is None


def test_hostile_replies_take_linear_time() -> None:
    for text in ("`" * 300_000, "```\n" * 100_000, "- " * 200_000 + "```", "<think>" * 50_000, "= " * 200_000):
        alone = extract(text, must_define="f")
        assert alone is None or len(alone.source) <= len(text)
        opened = extract("```python\nf = 1\n" + text, must_define="f")
        assert opened is not None
        assert opened.source.startswith("f = 1\n")
