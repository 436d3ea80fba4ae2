"""Requests that pages of other addresses send to a server of this machine."""

import http.client
import socket
import subprocess
import sys

import pytest

from t3_agents.commands.guard import refusal
from tests.helpers import ROOT, free_port, wait_for_page


FOREIGN_HOSTS = [
    *("evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example", "localhost.", "10.0.0.1"),
    *(
        "169.254.169.254",
        "[::2]",
        "",
        " localhost",
        "localhost@evil.example",
        "localhost:80:80",
        "localhost/",
        "2130706433",
    ),
]


@pytest.mark.parametrize("name", FOREIGN_HOSTS)
def test_a_foreign_host_is_refused(name):
    assert "not served" in refusal([("Host", name)], "127.0.0.1")
    assert "not served" in refusal([("host", "localhost"), ("HOST", name)], "localhost")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "0.0.0.0", "::", "[::]", "10.1.2.3", "box.example"])
def test_loopback_and_the_named_host_are_served(host):
    wide = host in ("0.0.0.0", "::", "[::]")
    names = ["localhost", "LOCALHOST:7860", "127.0.0.1:1", "[::1]:7860"]
    names += (
        ["192.168.1.5:7860", "[fe80::1]", socket.gethostname()] if wide else [f"[{host}]" if ":" in host else host]
    )
    for name in names:
        assert refusal([("Host", name)], host) is None
        assert refusal([("Host", name), ("Origin", f"http://{name}")], host) is None
    for name in ["evil.example", *([] if wide else ["192.168.1.6"])]:
        assert refusal([("Host", name)], host)


@pytest.mark.parametrize(
    "headers",
    [
        *({"Origin": o} for o in ("http://evil.example", "null", "", "http://localhost:1", "http://127.0.0.1:7860")),
        *({"Origin": o} for o in ("http://localhost:7860.evil.example", "file://", "http://localhost:7860, null")),
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "iframe", "Sec-Fetch-Mode": "navigate"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_foreign_page_is_refused(headers):
    assert "Pages of other" in refusal([("Host", "localhost:7860"), *headers.items()], "127.0.0.1")


def test_a_link_and_an_own_page_are_served():
    host = ("Host", "localhost:7860")
    assert refusal([host, ("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Dest", "document")], "localhost") is None
    assert refusal([host, ("Sec-Fetch-Site", "same-origin"), ("Origin", "http://localhost:7860")], "localhost") is None


SERVER = """
import sys, uvicorn

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
    elif scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"here"})

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]))
"""
WEBSOCKET = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
WEBSOCKET["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="


def status_of(port, method="GET", path="/", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_whatever_a_module_serves_is_guarded(tmp_path):
    pytest.importorskip("uvicorn")
    pytest.importorskip("websockets")
    (tmp_path / "server_of_a_library.py").write_text(SERVER)
    port = free_port()
    command = [sys.executable, "-m", "t3_agents.commands.guard", "127.0.0.1", "server_of_a_library", str(port)]
    process = subprocess.Popen(command, env={"PYTHONPATH": f"{tmp_path}:{ROOT}"}, stderr=subprocess.DEVNULL)
    try:
        assert wait_for_page(process, f"http://127.0.0.1:{port}/") == b"here"
        assert status_of(port, **WEBSOCKET) == 101
        for foreign in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
            for method in ("GET", "POST", "OPTIONS", "HEAD"):
                assert status_of(port, method, **foreign) == 403
            assert status_of(port, **WEBSOCKET, **foreign) == 403
    finally:
        process.kill()
        process.wait()
