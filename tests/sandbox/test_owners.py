from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from envkit.errors import InfraError
from envkit.sandbox import owners


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def test_records_are_written_listed_replaced_and_dropped() -> None:
    owner = owners.current()
    record = owners.Record(owner, "docker", {"containers": ["a"]})
    owners.write(record)
    owners.write(replace(record, things={"containers": ["a", "b"]}))
    owners.write(owners.Record(owner, "slot-1", {"cgroups": []}))
    assert [dict(each.things) for each in owners.records("docker")] == [{"containers": ["a", "b"]}]
    assert [each.owner for each in owners.records("slot")] == [owner]
    owners.drop(record)
    owners.drop(record)
    assert list(owners.records("docker")) == []


def test_an_owner_is_alive_until_its_process_ends() -> None:
    source = (
        "from envkit.sandbox import owners; owners.write(owners.Record(owners.current(), 'slot')); print(); input()"
    )
    with subprocess.Popen([sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        (record,) = owners.records("slot")
        assert record.owner.pid == other.pid
        assert record.owner.alive()
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        assert not record.owner.alive()  # a zombie owns nothing
    assert not record.owner.alive()


def test_a_later_process_of_the_same_number_is_another() -> None:
    owner = owners.current()
    assert owner.alive()
    assert not replace(owner, started=owner.started - 1).alive()
    assert not replace(owner, boot="another").alive()


def test_what_cannot_be_seen_from_here_is_taken_for_alive() -> None:
    assert replace(owners.current(), pid=2**22, namespace="pid:[1]").alive()


def test_what_is_no_record_is_passed_over(tmp_path: Path) -> None:
    owners.write(owners.Record(owners.current(), "slot"))
    for name in ("1-1-slot.json", "2-2-slot.json"):
        (tmp_path / "envkit/owners" / name).write_text("{" if name[0] == "1" else '{"pid": 2}')
    assert len(list(owners.records("slot"))) == 1


def test_a_folder_that_others_can_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "envkit").mkdir(mode=0o700)
    (tmp_path / "envkit").chmod(0o777)
    with pytest.raises(InfraError, match="only you can write"):
        owners.write(owners.Record(owners.current(), "slot"))
    (tmp_path / "envkit").rmdir()
    (tmp_path / "envkit").symlink_to(tmp_path)
    with pytest.raises(InfraError, match="only you can write"):
        list(owners.records("slot"))


def test_only_what_is_meant_is_killed() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        owners.kill(process.pid, lambda: False)
        assert process.poll() is None
        owners.kill(process.pid, lambda: True)
        assert process.wait(5) == -9
    owners.kill(process.pid, lambda: True)
