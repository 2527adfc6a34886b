"""What every backend keeps whose boxes may reach some hosts, or be reached: the ways in and out, and that there are no
others."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from envkit.errors import UsageError
from envkit.sandbox import Allow, Backend, Capabilities, ExecLimits, Sandbox, SandboxSpec

LONG = ExecLimits(wall=60, cpu=60)


@pytest.fixture(autouse=True)
async def claimed(backend: Backend) -> None:
    found = await backend.available()
    assert isinstance(found, Capabilities)
    if "allow" not in found.network or not found.ports:
        pytest.skip(f"{backend.name} does not claim it")


class Web(BaseHTTPRequestHandler):
    """Says what it was asked, with which headers and how much of a body."""

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = json.dumps({"path": self.path, "headers": dict(self.headers), "body": len(body)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    """A server that plays a host of the internet, at an address that is not what boxes call themselves."""
    server = ThreadingHTTPServer(("127.0.0.2", 0), Web)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"127.0.0.2:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


GET = """
import json, sys, urllib.error, urllib.request
def get(url, **options):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, **options), timeout=50) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
"""

ALLOWED = (
    GET
    + """
import http.client, os
url = f"http://{sys.argv[1]}"
status, found = get(url + "/a?b", headers={"X-Own": "1", "Proxy-Authorization": "secret"})
found = json.loads(found)
assert (status, found["path"], found["headers"]["X-Own"]) == (200, "/a?b", "1"), found
assert found["headers"]["Host"] == sys.argv[1] and "Proxy-Authorization" not in found["headers"], found
assert json.loads(get(url, data=b"x" * 3_000_000)[1])["body"] == 3_000_000
through = http.client.HTTPConnection(os.environ["https_proxy"].removeprefix("http://"))
host, port = sys.argv[1].split(":")
through.set_tunnel(host, int(port))
for _ in range(2):
    through.request("GET", "/tunnelled")
    assert json.loads(through.getresponse().read())["path"] == "/tunnelled"
print(get("http://example.org/?the=secret"), get("http://127.0.0.2:1/"))
"""
)

DIRECT = """
import os, socket, sys
for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
    del os.environ[name]
host, port = sys.argv[1].split(":")
try:
    socket.create_connection((host, int(port)), timeout=5)
except OSError as error:
    print("no", error)
"""


async def test_hosts_that_are_allowed_are_reached_and_no_others(start, web: str) -> None:
    box = await start(network=Allow(hosts=(web,)), env={"A": "1"})
    result = await box.python(ALLOWED, argv=[web], limits=LONG)
    assert result.ok, result.stderr
    told = result.stdout.decode()
    assert f"(403, 'This box may not reach example.org:80. It may reach: {web}.\\n')" in told
    assert "(403, 'This box may not reach 127.0.0.2:1." in told
    assert (await box.python(DIRECT, argv=[web])).stdout.startswith(b"no ")
    assert b"no_proxy=localhost,127.0.0.1,::1\n" in (await box.exec(["env"])).stdout


async def test_a_spec_that_names_no_hosts_but_something_else_is_refused(backend: Backend) -> None:
    for host in ("https://pypi.org", "pypi.org/simple", "", "a:b", "me@pypi.org"):
        with pytest.raises(UsageError, match="is no host"):
            await backend.start(SandboxSpec(network=Allow(hosts=(host,))))
    with pytest.raises(UsageError, match="loopback"):
        await backend.start(SandboxSpec(ports=(80,)))


SERVER = """
import http.server, os
class Large(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.encode() + b"x" * 5_000_000)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 8123), Large)
print("up", flush=True)
server.serve_forever()
"""


async def test_a_port_of_the_box_is_reached_from_here(start) -> None:
    box: Sandbox = await start(network="loopback", ports=(8123, 8124))
    url = await box.url(8123)
    with pytest.raises(OSError, match=r"reset|closed|remote end"):
        await asyncio.to_thread(fetch, url)  # where nobody listens yet
    server = await box.spawn(["python3", "-c", SERVER], limits=LONG)
    assert await server.read() == b"up\n"
    answers = await asyncio.gather(*[asyncio.to_thread(fetch, f"{url}/{n}") for n in range(10)])
    assert [(answer[:2], len(answer)) for answer in answers] == [(f"/{n}".encode(), 5_000_002) for n in range(10)]
    assert await box.url(8123) == url
    assert await box.url(8124) != url
    with pytest.raises(UsageError, match="8125"):
        await box.url(8125)
    await box.close()
    with contextlib.suppress(ConnectionResetError):  # the connection that was accepted last
        with pytest.raises(OSError, match="refused"):
            await asyncio.to_thread(fetch, url)


def fetch(url: str) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=30) as answer:
        return answer.read()
