"""Endpoints: URLs, aliases, scripted names, and keys that are only ever named."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pydantic import ValidationError

from envkit import Endpoint, ModelError, SingleTurnEnv, Task
from envkit.cli.options import pairs
from envkit.clients.endpoint import aliases, bind, endpoint, without_secrets
from envkit.errors import UsageError


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("ENVKIT_ENDPOINTS", "ENVKIT_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_an_alias_has_everything(nowhere: Path) -> None:
    write(
        nowhere / "endpoints.toml", '[qwen]\nurl="http://h:1/v1/"\nmodel="q"\nkey="QWEN"\nsampling={temperature=0.6}\n'
    )
    found = endpoint("qwen")
    assert (found.url, found.model, found.key, found.sampling) == ("http://h:1/v1", "q", "QWEN", {"temperature": 0.6})


def test_the_working_directorys_aliases_lie_over_the_homes(nowhere: Path) -> None:
    write(nowhere / "home/.config/envkit/endpoints.toml", '[a]\nurl="http://home/v1"\n[b]\nurl="http://home/v1"\n')
    write(nowhere / "endpoints.toml", '[a]\nurl="http://here/v1"\n')
    assert {name: found.url for name, found in aliases().items()} == {"a": "http://here/v1", "b": "http://home/v1"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a\n", r"endpoints\.toml cannot be read as TOML"),
        ("a = 1\n", r"'a' must be a table"),
        ('[a]\nurl="ftp://h"\n', r"endpoints\.toml \[a\]: url: it must begin with http"),
        ('[a]\nurl="http://h"\nurll="x"\n', r"urll: Extra inputs are not permitted \(fields: url, model, key"),
        ('[a]\nurl="http://u:p@h"\n', "must not hold a password"),
        ('[a]\nurl="http://h/v1?key=p"\n', "must end with its path"),
        ('[a]\nurl="http://h:99999"\n', "its port must be a number up to 65535"),
        ('[a]\nurl="http://h"\nmax_in_flight=0\n', "max_in_flight: Input should be greater than 0"),
    ],
)
def test_a_malformed_file_is_named_with_the_field(nowhere: Path, text: str, said: str) -> None:
    write(nowhere / "endpoints.toml", text)
    with pytest.raises(UsageError, match=said):
        endpoint("a")


def test_a_key_where_its_name_belongs_is_refused_and_not_shown(nowhere: Path) -> None:
    write(nowhere / "endpoints.toml", '[a]\nurl="http://h/v1"\nkey="sk-verysecret"\n')
    with pytest.raises(UsageError, match="NAME of an environment variable") as caught:
        endpoint("a")
    assert "verysecret" not in str(caught.value)


def test_a_wrong_field_shows_no_value_and_says_where(nowhere: Path) -> None:
    with pytest.raises(ValidationError) as caught:
        Endpoint(url="http://h/v1", key="sk-verysecret")
    assert "verysecret" not in str(caught.value)
    with pytest.raises(UsageError, match="http://h/v1: key: it must be the NAME") as told:
        Endpoint(url="http://h/v1").with_(key="sk-verysecret")
    assert "verysecret" not in str(told.value)


@pytest.mark.parametrize(
    "typed",
    [
        "http://user:s3cret@h/v1", "http://user:s3/cret@h/v1", "http://user:s3cret", "https://h/v1?api_key=s3cret",
        "https://h/v1#s3cret", "ftp://user:s3cret@h", "user:s3cret@h/v1", "http://s3cret@h:8000/v1",
    ],
)  # fmt: skip
def test_a_secret_in_a_url_is_refused_and_not_shown(nowhere: Path, typed: str) -> None:
    with pytest.raises(UsageError) as caught:
        endpoint(typed)
    assert "s3" not in str(caught.value)
    assert typed.partition(":")[0] in str(caught.value) or "'h/v1'" in str(caught.value)
    with pytest.raises(UsageError, match="KEY=VALUE") as told:
        pairs("--role", [typed.replace("=", "")])
    assert "s3" not in str(told.value)


@pytest.mark.parametrize(
    "body",
    [
        '{api_key="s3cret"}', '{"X-API-Key"="s3cret"}', '{authorization="Bearer s3cret"}', '{a={auth_token="s3cret"}}',
        '{a=[{password="s3cret"}]}', '{HF_TOKEN="s3cret"}', '{client_secret="s3cret"}',
    ],
)  # fmt: skip
def test_a_key_in_a_body_is_refused_and_not_shown(nowhere: Path, body: str) -> None:
    for field in ("extra_body", "sampling"):
        write(nowhere / "endpoints.toml", f'[a]\nurl="http://h/v1"\n{field}={body}\n')
        with pytest.raises(UsageError, match=rf"{field}: '.*' seems to hold a key.* as `key`") as caught:
            endpoint("a")
        assert "s3cret" not in str(caught.value)


def test_a_body_may_speak_of_tokens() -> None:
    body = {"max_tokens": 5, "stop_token_ids": [1], "eos_token": "x", "return_token_ids": True, "key": {"token": 1}}
    assert Endpoint(url="http://h/v1", extra_body=body).extra_body == body


def test_what_is_no_secret_of_a_url_is_shown() -> None:
    assert without_secrets("http://127.0.0.1:8000/v1") == "http://127.0.0.1:8000/v1"
    assert without_secrets("qwen:7b") == "qwen:7b"


def test_a_key_may_end_in_a_newline_and_must_be_text(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Endpoint(url="http://h/v1", key="MY_KEY")
    monkeypatch.setenv("MY_KEY", "s3cret\n")
    assert found.secret == "s3cret"
    monkeypatch.setenv("MY_KEY", "s3\x07cret")
    with pytest.raises(ModelError, match="MY_KEY holds no key") as caught:
        _ = found.secret
    assert "cret" not in str(caught.value)


def test_an_unknown_name_offers_the_nearest(nowhere: Path) -> None:
    with pytest.raises(UsageError, match=r"no endpoint 'oracel'\. Did you mean 'oracle'"):
        asyncio.run(bind("oracel", SingleTurnEnv([Task(id="t")])))


def test_the_default_key_goes_to_openai_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    assert Endpoint(url="https://api.openai.com/v1").secret == "secret"
    assert Endpoint(url="https://api.openai.com.evil.example/v1").secret is None
    monkeypatch.setenv("ENVKIT_API_KEY", "own")
    assert Endpoint(url="http://127.0.0.1:8000/v1").secret == "own"
    with pytest.raises(ModelError, match="set the environment variable NOT_SET"):
        _ = Endpoint(url="http://h/v1", key="NOT_SET").secret
