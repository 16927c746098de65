"""Object stores that tests start: on loopback, each a process of its own, ended when the test session is over.

The programs live in `.venv-servers` (`make .venv-servers/.installed`), apart from the development tools: they pin packages that
those use. Without it these tests are skipped; in CI they fail. Each server's environment holds credentials made up for it: a
client that is given none asks the machine's metadata address for some, which no test may do.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

HERE = Path(__file__).parent
PROGRAMS = HERE.parent / ".venv-servers"
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # printed in its manual
S3_ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
AZURE_ENVIRONMENT = {"AZURE_STORAGE_ACCOUNT_KEY": AZURITE_KEY}
GOOGLE_ENVIRONMENT = {"GOOGLE_BEARER_TOKEN": "test"}


EVERYWHERE = pytest.mark.parametrize(
    "server",
    ["ministack", *(pytest.param(name, marks=pytest.mark.soak) for name in ("moto", "radosgw", "azurite", "fake_gcs"))],
    indirect=True,
)
"""Runs a test whose `server` is the fixture of that name on each server: on one of them each time, on all in the soak tests."""


class Server(NamedTuple):
    """A server that runs: the URI of an empty bucket in it, what the environment must say, its port and its process."""

    uri: str
    environment: dict[str, str]
    port: int
    process: subprocess.Popen[bytes]


def serving(name: str) -> AbstractContextManager[Server]:
    """The server of that name."""
    import ceph_cluster

    return {
        "ministack": ministack,
        "moto": moto,
        "radosgw": ceph_cluster.radosgw,
        "azurite": azurite,
        "fake_gcs": fake_gcs,
    }[name]()


@contextmanager
def ministack() -> Iterator[Server]:
    with _running(_start_ministack) as (port, process):
        _make_bucket(port)
        yield Server(s3_uri(port), S3_ENVIRONMENT, port, process)


class Fallible:
    """A ministack on one port that can be killed and started again with what it had confirmed.

    Args:
        folder: Where it keeps its objects.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self.uri, self.environment = s3_uri(self.port), S3_ENVIRONMENT

    def start(self) -> None:
        self.process = _start_ministack(self.port, S3_PERSIST="1", S3_DATA_DIR=str(self._folder))
        wait_for(self.port, self.process)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Fallible:
        self.start()
        _make_bucket(self.port)
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def _start_ministack(port: int, **more: str) -> subprocess.Popen[bytes]:
    return _start(["bin/ministack"], {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "SERVICES": "s3", **more})


@contextmanager
def moto() -> Iterator[Server]:
    with _running(lambda port: _start(["bin/moto_server", "-H", "127.0.0.1", "-p", str(port)])) as (port, process):
        _make_bucket(port)
        yield Server(s3_uri(port), S3_ENVIRONMENT, port, process)


@contextmanager
def rclone(folder: Path) -> Iterator[Server]:
    """The liar: it takes conditional puts and ignores the condition."""
    (folder / "bucket").mkdir()
    words = ["bin/rclone", "serve", "s3", str(folder), "--auth-key", "test,test", "--addr"]
    with _running(lambda port: _start([*words, f"127.0.0.1:{port}"])) as (port, process):
        yield Server(s3_uri(port), S3_ENVIRONMENT, port, process)


@contextmanager
def azurite() -> Iterator[Server]:
    words = ["node_modules/.bin/azurite-blob", "--blobHost", "127.0.0.1", "--inMemoryPersistence", "--silent"]
    words += ["--skipApiVersionCheck", "--disableTelemetry", "--blobPort"]
    with _running(lambda port: _start([*words, str(port)])) as (port, process):
        _make_container(f"127.0.0.1:{port}/devstoreaccount1")
        yield Server(az_uri(port), AZURE_ENVIRONMENT, port, process)


@contextmanager
def fake_gcs(*words: str) -> Iterator[Server]:
    """The stand-in for Google's; told "lies", it takes conditional puts and ignores the condition."""

    def start(port: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, str(HERE / "fake_gcs.py"), str(port), *words])

    with _running(start) as (port, process):
        yield Server(gs_uri(port), GOOGLE_ENVIRONMENT, port, process)


@contextmanager
def answering(answer: Callable[[BaseHTTPRequestHandler, bytes], int]) -> Iterator[int]:
    """The port of a server of ours that answers each request with the status that `answer` gives, and nothing else."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            status = answer(self, self.rfile.read(int(self.headers.get("Content-Length") or 0)))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_one  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes], deadline_s: float = 60.0) -> None:
    end = time.monotonic() + deadline_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert process.poll() is None, f"the server ended with {process.returncode}"
            assert time.monotonic() < end, f"the server does not listen after {deadline_s} s"
            time.sleep(0.02)
        else:
            return


@contextmanager
def _running(start: Callable[[int], subprocess.Popen[bytes]]) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    port = free_port()
    process = start(port)
    try:
        wait_for(port, process)
        yield port, process
    finally:
        process.kill()
        process.wait()


def _start(words: list[str], environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    program = PROGRAMS / words[0]
    if not program.exists():
        missing = f"{program} is missing: make .venv-servers/.installed"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    quiet = subprocess.DEVNULL
    return subprocess.Popen([str(program), *words[1:]], env={**os.environ, **(environment or {})}, stdout=quiet, stderr=quiet)


def s3_uri(port: int) -> str:
    return f"s3://bucket/some/where?endpoint_override=127.0.0.1:{port}&scheme=http"


def gs_uri(port: int) -> str:
    return f"gs://bucket/some/where?endpoint_override=127.0.0.1:{port}&scheme=http"


def az_uri(port: int) -> str:
    account = f"127.0.0.1:{port}/devstoreaccount1"
    return f"az://bucket/some/where?account_name=devstoreaccount1&endpoint_override={account}&scheme=http"


def _make_bucket(port: int) -> None:
    with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/bucket", method="PUT")):
        pass


def _make_container(account: str) -> None:
    """One signed request: Azure's client library would be a dependency for this alone."""
    import base64
    import hashlib
    import hmac
    from email.utils import formatdate

    version, date = "2021-08-06", formatdate(usegmt=True)
    path = "/devstoreaccount1/devstoreaccount1/bucket\nrestype:container"
    text = f"PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:{version}\n{path}"
    signature = base64.b64encode(hmac.new(base64.b64decode(AZURITE_KEY), text.encode(), hashlib.sha256).digest()).decode()
    headers = {"x-ms-date": date, "x-ms-version": version, "Authorization": f"SharedKey devstoreaccount1:{signature}"}
    headers["Content-Length"] = "0"
    with urllib.request.urlopen(
        urllib.request.Request(f"http://{account}/bucket?restype=container", method="PUT", headers=headers)
    ):
        pass
