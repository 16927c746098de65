"""An HTTP proxy between holdfast and a store, which does to each request what the test says.

    with FaultProxy(port, lambda number, request: "drop after" if number == 3 else "") as proxy: ...

"drop before": the request never arrives. "drop after": it is carried out, its reply is lost. A number, "503": that answer, and
nothing is carried out; with a code behind it, "404 NoSuchKey", that stands in the answer. "after 409": that answer, and it is
carried out. "truncate": the reply ends in the
middle. "": it goes through.
"""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["FaultProxy"]


class FaultProxy:
    """Counts requests from 1; `fate` gets the number and "METHOD path"; `log` has what came and what was done to it.

    Requests that are signed with the key `expired`, where one is given, are answered as S3 does when a key's time is over.
    """

    def __init__(self, upstream: int, fate: Callable[[int, str], str]) -> None:
        self.log: list[tuple[str, str]] = []
        self.fate = fate
        self.expired = ""
        lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = (
                True  # else the body of each answer waits 40 ms for the client's word that it has the headers
            )

            def handle_one(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                request = f"{self.command} {self.path}"
                with lock:
                    over = outer.expired and f"={outer.expired}/" in self.headers.get("Authorization", "").replace(" ", "")
                    fate = "400 ExpiredToken" if over else outer.fate(len(outer.log) + 1, request)
                    outer.log.append((request, fate))
                if fate == "drop before":
                    return self.drop()
                status, _, code = fate.partition(" ")
                if status.isdecimal():
                    said = f"<Error><Code>{code}</Code></Error>".encode() if code else b""
                    return self.answer(int(status), [("Content-Length", str(len(said)))], said)
                there = http.client.HTTPConnection("127.0.0.1", upstream, timeout=30)
                try:
                    there.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                    for name, value in self.headers.items():
                        there.putheader(name, value)
                    there.endheaders(body)
                    reply = there.getresponse()
                    data, headers = reply.read(), [(n, v) for n, v in reply.getheaders() if n.lower() not in HOP_BY_HOP]
                finally:
                    there.close()
                if fate == "drop after":
                    return self.drop()
                if fate.startswith("after "):
                    return self.answer(int(fate.removeprefix("after ")), [("Content-Length", "0")], b"")
                if not any(name.lower() == "content-length" for name, _ in headers):
                    headers.append(("Content-Length", str(len(data))))
                self.answer(reply.status, headers, data[: len(data) // 2] if fate == "truncate" else data)
                if fate == "truncate":
                    self.drop()
                return None

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_one  # noqa: N815

            def answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
                self.send_response_only(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)
                self.wfile.flush()

            def drop(self) -> None:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

            def log_message(self, *_: object) -> None:
                """Silence."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.port = self._server.server_port

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


HOP_BY_HOP = ("connection", "transfer-encoding", "keep-alive")
