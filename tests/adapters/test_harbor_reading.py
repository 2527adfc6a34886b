"""Reading tasks of Harbor's format: what becomes of their fields, and what is refused, by which name."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
from adapters.harbor_folders import CALM, harbor_task

from envkit.adapters.harbor import HarborTask, Unsupported, harbor_tasks, read_task
from envkit.errors import UsageError
from envkit.sandbox import Allow, SandboxSpec
from envkit.task import RecordedTask

MiB = 1 << 20
FULL = """
schema_version = "1.4"
artifacts = ["/logs/artifacts"]
[task]
name = "owner/first"
[metadata]
difficulty = "hard"
[agent]
timeout_sec = 120.5
[verifier]
timeout_sec = 30
env = { LEVEL = "2", KEY = "${THE_KEY:-none}" }
[solution]
env = { FAST = "1" }
[environment]
network_mode = "allowlist"
allowed_hosts = ["pypi.org"]
memory_mb = 300
storage_mb = 40
cpus = 2
gpus = 0
workdir = "/srv/it"
env = { A = "b" }
"""


def spec_of(task: HarborTask) -> SandboxSpec:
    assert task.sandbox is not None
    return task.sandbox


def test_the_fields_of_a_task_toml_arrive(tmp_path: Path) -> None:
    task = read_task(harbor_task(tmp_path / "first", FULL))
    assert (task.id, task.prompt, task.directory) == ("owner/first", "Do it.", str(tmp_path / "first"))
    assert (task.agent_timeout, task.verifier_timeout, task.metadata) == (120.5, 30.0, {"difficulty": "hard"})
    assert task.verifier_env == {"LEVEL": "2", "KEY": "${THE_KEY:-none}"}
    assert (task.solution_env, task.builds) == ({"FAST": "1"}, False)
    spec = spec_of(task)
    assert (spec.workdir, spec.env, spec.image, spec.root) == ("/srv/it", {"A": "b"}, None, False)
    assert (spec.limits.memory, spec.limits.disk, spec.limits.wall) == (300 * MiB, 40 * MiB, 120.5)
    assert spec.network == Allow(hosts=("pypi.org",))
    assert spec.lifetime > 150


def test_what_a_task_toml_leaves_out_is_the_formats_default(tmp_path: Path) -> None:
    task = read_task(harbor_task(tmp_path / "bare", ""))
    assert (task.id, task.agent_timeout, task.verifier_timeout) == ("bare", None, 600.0)
    assert (spec_of(task).network, spec_of(task).workdir) == ("open", "/app")


def test_keys_of_older_versions_are_read(tmp_path: Path) -> None:
    toml = 'version = "1.0"\n[environment]\nallow_internet = false\nmemory = "2G"\nstorage = "512M"\n'
    spec = spec_of(read_task(harbor_task(tmp_path / "old", toml)))
    assert (spec.network, spec.limits.memory, spec.limits.disk) == ("none", 2048 * MiB, 512 * MiB)


def test_a_tasks_hash_follows_its_files_and_not_their_place(tmp_path: Path) -> None:
    one = read_task(harbor_task(tmp_path / "here" / "it"))
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    other = tmp_path / "there" / "it"
    assert read_task(other).hash == one.hash
    (other / "tests" / "__pycache__").mkdir()
    (other / "tests" / "__pycache__" / "test.pyc").write_bytes(b"junk")
    assert read_task(other).hash == one.hash
    (other / "tests" / "test.sh").write_text("#!/bin/sh\necho 0 >/logs/verifier/reward.txt\n")
    assert read_task(other).hash != one.hash
    assert one.model_copy(update={"prompt": "Do that."}).hash != one.hash


def test_a_task_is_the_same_when_it_is_read_back_from_a_record(tmp_path: Path) -> None:
    task = read_task(harbor_task(tmp_path / "it", FULL))
    recorded = RecordedTask.model_validate_json(task.model_dump_json())
    assert HarborTask.model_validate(recorded.model_dump()) == task


def test_canary_lines_are_not_for_the_model(tmp_path: Path) -> None:
    text = "<!-- canary GUID 1 -->\n# Another CANARY\n\nDo it.\n\n# A canary in the middle stays\n"
    task = read_task(harbor_task(tmp_path / "it", **{"instruction.md": text}))
    assert task.prompt == "Do it.\n\n# A canary in the middle stays"


@pytest.mark.parametrize(
    ("toml", "key"),
    [
        ('schema_version = "2.0"', "schema_version"),
        ('[[steps]]\nname = "one"', "steps"),
        ("[environment]\ngpus = 1", "environment.gpus"),
        ('[environment]\ntpu = { type = "v4", topology = "2x2" }', "environment.tpu"),
        ('[[environment.mcp_servers]]\nname = "x"\nurl = "http://x"', "environment.mcp_servers"),
        ('[environment]\nos = "windows"', "environment.os"),
        ('[environment]\nskills_dir = "/skills"', "environment.skills_dir"),
        ('[environment.healthcheck]\ncommand = "true"', "environment.healthcheck"),
        ('[environment]\nenv = { KEY = "${HOME}" }', "environment.env"),
        ('[environment]\nnetwork_mode = "allowlist"\nallowed_hosts = ["*.org"]', "environment.allowed_hosts"),
        ("[environment]\nquantum = true", "environment.quantum"),
        ('[agent]\nuser = "somebody"', "agent.user"),
        ('[agent]\nnetwork_mode = "no-network"', "agent.network_mode"),
        ('[verifier]\nenvironment_mode = "separate"', "verifier.environment_mode"),
        ("[verifier.environment]\nmemory_mb = 9", "verifier.environment"),
        ('[[verifier.collect]]\ncommand = "true"', "verifier.collect"),
    ],
)
def test_what_is_not_supported_is_refused_by_its_name(tmp_path: Path, toml: str, key: str) -> None:
    folder = harbor_task(tmp_path / "it", toml)
    with pytest.raises(Unsupported, match=rf"^{folder / 'task.toml'}: {key}\b"):
        read_task(folder)


@pytest.mark.parametrize("name", ["environment/docker-compose.yaml", ".harborignore", "trajectory.json"])
def test_files_that_ask_for_more_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Unsupported, match=f"{name} is not supported"):
        read_task(harbor_task(tmp_path / "it", **{name: "{}"}))


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[agent]\ntimeout_sec = -1", "agent.timeout_sec: Input should be greater than 0"),
        ("[agent]\ntimeout_sec = inf", "agent.timeout_sec"),
        ("[agent", "is no TOML"),
        ('[task]\nname = "no-owner"', "task.name: is not of the form owner/name"),
        ('[environment]\nmemory = "much"', "'much' is no size"),
        ('[environment]\nmemory = "1G"\nmemory_mb = 5', "contradict each other"),
        ('[environment]\nallowed_hosts = ["a.org"]', "allowed_hosts goes with"),
        ('[environment]\nworkdir = "app"', "environment.workdir: is no absolute path"),
    ],
)
def test_what_is_wrong_is_said_with_its_file_and_key(tmp_path: Path, toml: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        read_task(harbor_task(tmp_path / "it", toml))
    assert "task.toml" in str(refused.value)
    assert not isinstance(refused.value, Unsupported)


@pytest.mark.parametrize("missing", ["instruction.md", "tests/test.sh"])
def test_a_file_that_every_task_has_is_missed_by_its_name(tmp_path: Path, missing: str) -> None:
    folder = harbor_task(tmp_path / "it")
    (folder / missing).unlink()
    with pytest.raises(UsageError, match=f"no {missing}"):
        read_task(folder)


def test_a_folder_of_tasks_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        harbor_task(tmp_path / name)
    (tmp_path / "notes").mkdir()
    assert [task.id for task in harbor_tasks(tmp_path)] == ["a", "b", "c"]
    assert [task.id for task in harbor_tasks(tmp_path / "b")] == ["b"]


def test_a_folder_says_what_of_it_is_not_supported(tmp_path: Path) -> None:
    harbor_task(tmp_path / "a")
    harbor_task(tmp_path / "b", "[environment]\ngpus = 8\n")
    with pytest.raises(Unsupported, match=r"environment\.gpus"):
        harbor_tasks(tmp_path)
    left: dict[str, Any] = {}
    tasks = harbor_tasks(tmp_path, skipped=lambda name, error: left.update({name: error}))
    assert ([task.id for task in tasks], list(left)) == (["a"], ["b"])


def test_no_two_tasks_have_one_name(tmp_path: Path) -> None:
    for name in ("a", "b"):
        harbor_task(tmp_path / name, '[task]\nname = "x/y"\n')
    with pytest.raises(UsageError, match="both named 'x/y'"):
        harbor_tasks(tmp_path)


def test_a_folder_without_tasks_and_no_folder_at_all(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no tasks"):
        harbor_tasks(tmp_path)
    with pytest.raises(UsageError, match="There is no folder"):
        harbor_tasks(tmp_path / "none")
    with pytest.raises(UsageError, match="is no task"):
        read_task(tmp_path)


def test_a_link_may_lead_only_to_the_tasks_own_files(tmp_path: Path) -> None:
    folder = harbor_task(tmp_path / "it", **{"shared/data": "x"})
    (folder / "tests" / "data").symlink_to("../shared/data")
    inside = read_task(folder).hash
    (folder / "shared" / "data").write_text("y")
    assert read_task(folder).hash != inside
    (tmp_path / "secret").write_text("s")
    (folder / "tests" / "secret").symlink_to(tmp_path / "secret")
    with pytest.raises(UsageError, match="a link that leads out of"):
        read_task(folder)


def test_a_circle_of_links_ends(tmp_path: Path) -> None:
    folder = harbor_task(tmp_path / "it")
    (folder / "tests" / "again").symlink_to(".")
    with pytest.raises(UsageError, match="a link to a folder that it lies in"):
        read_task(folder)


def dockerfile(folder: Path, text: str, toml: str = CALM, **files: str) -> Path:
    return harbor_task(folder, toml, **{"environment/Dockerfile": text, **files})


@pytest.mark.parametrize(
    ("text", "workdir", "folders"),
    [
        ("FROM python:3.13-slim\nWORKDIR /app\nCOPY . .\n", "/app", ()),
        (
            '# a comment\nFROM ubuntu:24.04\nWORKDIR /srv/x\nENV A=1 B=2\nCOPY data \\\n  ./\nCMD ["bash"]\n',
            "/srv/x",
            (),
        ),
        ("FROM debian\nCOPY data /data/in/\n", "/app", ("/data",)),
        ('FROM debian\nWORKDIR /w\nCOPY ["data", "/w/there"]\n', "/w", ()),
        ("FROM ghcr.io/laude-institute/t-bench/python-3-13:20250620\nCOPY data .\n", "/app", ()),
    ],
)
def test_a_plain_dockerfile_needs_no_image(tmp_path: Path, text: str, workdir: str, folders: tuple[str, ...]) -> None:
    folder = dockerfile(tmp_path / "it", text, **{"environment/data": "x"})
    task = read_task(folder)
    spec = spec_of(task)
    assert (task.builds, spec.image, spec.root, spec.workdir) == (False, None, False, workdir)
    assert set(spec.folders) == {"/logs", "/solution", "/tests", *folders}


def test_a_plain_dockerfile_is_built_where_that_is_asked_for(tmp_path: Path) -> None:
    folder = dockerfile(tmp_path / "it", "FROM python:3.13-slim\nWORKDIR /app\n")
    assert read_task(folder, build="always").builds
    assert not read_task(harbor_task(tmp_path / "none"), build="always").builds


@pytest.mark.parametrize(
    "step",
    [
        "RUN true",
        "COPY --from=other /x /x",
        "COPY *.txt /app/",
        "ENV PATH=/opt/bin:$PATH",
        "ADD https://example.org/x /x",
        "COPY data /usr/share/data",
        "COPY data /data",
        "FROM debian",
    ],
)
def test_any_other_dockerfile_needs_one_named_by_its_content(tmp_path: Path, step: str) -> None:
    text = f"FROM debian\nWORKDIR /app\n{step}\nWORKDIR /app\n"
    folder = dockerfile(tmp_path / "it", text, **{"environment/data": "x"})
    task = read_task(folder)
    spec = spec_of(task)
    assert (task.builds, spec.root, spec.workdir) == (True, True, "/app")
    (folder / "environment" / "data").write_text("y")
    other = spec_of(read_task(folder))
    assert spec.image is not None
    assert spec.image.startswith("envkit-task:")
    assert spec.image != other.image


def test_a_given_image_is_taken_as_it_is(tmp_path: Path) -> None:
    toml = '[environment]\ndocker_image = "some/image:1"\nworkdir = "/app"\nnetwork_mode = "no-network"\n'
    task = read_task(harbor_task(tmp_path / "it", toml))
    assert (task.builds, spec_of(task).image, spec_of(task).root) == (False, "some/image:1", True)
    with pytest.raises(Unsupported, match="says where programs start"):
        read_task(harbor_task(tmp_path / "nowhere", toml.replace('workdir = "/app"\n', "")))


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ('ENTRYPOINT ["serve"]', "ENTRYPOINT"),
        ("USER somebody", "USER somebody"),
        ("RUN --mount=type=cache,target=/x true", "BuildKit"),
        ("COPY --chmod=755 data /x/", "BuildKit"),
        ("RUN <<EOF\nUSER nobody\nEOF", "BuildKit"),
    ],
)
def test_what_of_a_dockerfile_cannot_be_kept_is_refused(tmp_path: Path, step: str, said: str) -> None:
    folder = dockerfile(tmp_path / "it", f"FROM debian\nWORKDIR /app\n{step}\n", **{"environment/data": "x"})
    with pytest.raises(Unsupported, match=said):
        read_task(folder)


def test_a_copied_file_that_is_not_there_is_missed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no 'data' beside it"):
        read_task(dockerfile(tmp_path / "it", "FROM debian\nCOPY data .\n"))


@pytest.mark.parametrize(("cpus", "says"), [("4", True), ("0.5", True), ("1", False)])
def test_a_number_of_cores_that_is_not_held_to_is_said(tmp_path: Path, cpus: str, says: bool) -> None:
    folder = harbor_task(tmp_path / "it", f"[environment]\ncpus = {cpus}\n")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        read_task(folder)
    assert any("environment.cpus" in str(warning.message) for warning in said) is says
