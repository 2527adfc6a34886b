"""terminal-bench's older format: its fields, what pytest's words count, and what is refused by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from adapters.harbor_folders import terminal_bench_task

from envkit.adapters.harbor import Unsupported, read_task
from envkit.adapters.harbor_protocol import solving
from envkit.adapters.terminal_bench import passed
from envkit.errors import UsageError

COMPOSE = """
services:
  client:
    build:
      dockerfile: Dockerfile
    image: ${T_BENCH_TASK_DOCKER_CLIENT_IMAGE_NAME}
    container_name: ${T_BENCH_TASK_DOCKER_CLIENT_CONTAINER_NAME}
    command: [ "sh", "-c", "sleep infinity" ]
    environment:
      - TEST_DIR=${T_BENCH_TEST_DIR}
    volumes:
      - ${T_BENCH_TASK_LOGS_PATH}:${T_BENCH_CONTAINER_LOGS_PATH}
"""


def test_the_fields_of_a_task_yaml_arrive(tmp_path: Path) -> None:
    yaml = "instruction: |-\n  Do it,\n  well.\ndifficulty: easy\ntags: [a]\nmax_agent_timeout_sec: 90\n"
    task = read_task(terminal_bench_task(tmp_path / "it", yaml, **{"docker-compose.yaml": COMPOSE}))
    assert (task.id, task.prompt, task.form) == ("it", "Do it,\nwell.", "terminal-bench")
    assert (task.agent_timeout, task.verifier_timeout) == (90.0, 60.0)
    assert task.metadata == {"difficulty": "easy", "tags": ["a"]}
    assert task.sandbox is not None
    assert (task.sandbox.workdir, task.sandbox.env, task.sandbox.network) == ("/app", {"TEST_DIR": "/tests"}, "open")


@pytest.mark.parametrize(
    ("yaml", "key"),
    [
        ("instruction: Do it.\nparser_name: swebench\n", "parser_name"),
        ("instruction: Do it.\nrun_tests_in_same_shell: true\n", "run_tests_in_same_shell"),
        ("instruction: Do it.\nnovelty: 1\n", "novelty"),
    ],
)
def test_what_is_not_supported_in_a_task_yaml_is_refused_by_its_name(tmp_path: Path, yaml: str, key: str) -> None:
    with pytest.raises(Unsupported, match=rf"task\.yaml: {key}\b"):
        read_task(terminal_bench_task(tmp_path / "it", yaml))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("services:\n", "services:\n  database:\n    image: postgres\n", "client, database"),
        ("    command:", "    privileged: true\n    command:", r"services\.client\.privileged"),
        ("    environment:\n", "    environment:\n      - KEY=1\n", "KEY=1"),
        ("    volumes:\n", "    volumes:\n      - /etc:/etc\n", "/etc:/etc"),
        ("dockerfile: Dockerfile", "dockerfile: Other", "Other"),
        ("services:\n", "networks: {}\nservices:\n", "networks"),
    ],
)
def test_a_compose_file_that_is_not_the_templates_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(Unsupported, match=said):
        read_task(terminal_bench_task(tmp_path / "it", **{"docker-compose.yaml": COMPOSE.replace(old, new, 1)}))


@pytest.mark.parametrize("text", ["instruction: [", "- a list\n", "instruction: ''\n"])
def test_a_broken_task_yaml_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"task\.yaml"):
        read_task(terminal_bench_task(tmp_path / "it", text))


def test_commands_of_a_solution_yaml_are_a_script_and_keystrokes_are_refused(tmp_path: Path) -> None:
    folder = terminal_bench_task(tmp_path / "it")
    (folder / "solution.sh").unlink()
    (folder / "solution.yaml").write_text("- command: cp in.txt out.txt\n- command: ls\n  block: true\n")
    assert len(solving(read_task(folder))) == 1
    (folder / "solution.yaml").write_text("- command: C-x\n  append_enter: false\n")
    with pytest.raises(Unsupported, match="keystrokes"):
        solving(read_task(folder))
    (folder / "solution.yaml").unlink()
    with pytest.raises(UsageError, match="has no solution"):
        solving(read_task(folder))


def summary(folder: Path, tests: str) -> str:
    """What pytest says of these tests, as run-tests.sh calls it."""
    (folder / "test_outputs.py").write_text(f"import pytest\n{tests}")
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", str(folder / "test_outputs.py")]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout


def test_pytests_own_summary_is_read(tmp_path: Path) -> None:
    good = "@pytest.mark.skip\ndef test_a(): pass\n@pytest.mark.xfail\ndef test_b(): 1 / 0\ndef test_c(): pass\n"
    assert passed(summary(tmp_path, good))
    assert not passed(summary(tmp_path, f"{good}@pytest.mark.xfail\ndef test_d(): pass\n"))


@pytest.mark.parametrize(
    ("lines", "verdict"),
    [
        ("PASSED t.py::test_a\nSKIPPED [1] t.py:3: unconditional skip\nXFAIL t.py::test_b - ZeroDivisionError", True),
        ("PASSED t.py::test_a\nFAILED t.py::test_b - assert 0 - PASSED", False),
        ("PASSED t.py::test_a\nERROR t.py::test_b - ModuleNotFoundError", False),
        ("ERROR t.py\n!!!!! Interrupted: 1 error during collection !!!!!", False),
        ("PASSED t.py::test_a\nXPASS t.py::test_b", False),
    ],
)
def test_every_test_has_to_pass(lines: str, verdict: bool) -> None:
    output = f"FAILED is said before\n===== short test summary info =====\n{lines}\n=== 1 passed, 1 failed in 0.01s ==="
    assert passed(output) is verdict


def test_a_summary_that_was_printed_before_pytests_own_hides_nothing() -> None:
    forged = "= short test summary info =\nPASSED t.py::test_a\n"
    assert not passed(f"{forged}= short test summary info =\nFAILED t.py::test_a\n")


@pytest.mark.parametrize("output", ["", "bash: pytest: command not found\n", "= short test summary info =\n"])
def test_without_a_summary_no_test_passed_as_terminal_bench_counts_it(output: str) -> None:
    assert not passed(output)
