"""A stand-in for Google Cloud Storage: as much of its XML API as obstore asks for, in memory, on loopback.

It honours `x-goog-if-generation-match: 0`, keeps metadata, puts large objects together from their parts, and has one bucket,
named "bucket". It shows which requests are sent, not how Google behaves.
"""

from __future__ import annotations

import itertools
import sys
import threading
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

Meta = dict[str, str]

OBJECTS: dict[str, tuple[bytes, Meta]] = {}
UPLOADS: dict[str, tuple[Meta, dict[int, bytes]]] = {}
NUMBERS = itertools.count(1)
LOCK = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else the body of each answer waits 40 ms for the client's word that it has the headers

    def handle_one(self) -> None:
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path)[1:].partition("/")
        query = parse_qs(parts.query, keep_blank_values=True)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if bucket != "bucket":
            return self.answer(404, b"<Error><Code>NoSuchBucket</Code></Error>")
        with LOCK:
            if "uploads" in query or "uploadId" in query:
                return self.answer(*self.in_parts(key, query, body))
            if self.command == "PUT":
                if self.headers.get("x-goog-if-generation-match") == "0" and key in OBJECTS and "lies" not in sys.argv:
                    return self.answer(412)
                OBJECTS[key] = (body, self.meta())
                return self.answer(200, headers={"ETag": '"1"', "x-goog-generation": "1"})
            if self.command == "GET" and not key:
                return self.answer(200, listing(query))
            if key not in OBJECTS:
                return self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            if self.command == "DELETE":
                del OBJECTS[key]
                return self.answer(204)
            data, meta = OBJECTS[key]
        headers = {"ETag": '"1"', "Last-Modified": formatdate(usegmt=True), **meta}
        wanted = (self.headers.get("Range") or "").removeprefix("bytes=").partition("-")[0]
        if not wanted:
            return self.answer(200, data, headers)
        if int(wanted) >= len(data):
            return self.answer(416, b"<Error><Code>InvalidRange</Code></Error>")
        headers["Content-Range"] = f"bytes {wanted}-{len(data) - 1}/{len(data)}"
        return self.answer(206, data[int(wanted) :], headers)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_one  # noqa: N815

    def meta(self) -> Meta:
        return {name: value for name, value in self.headers.items() if name.lower().startswith("x-goog-meta-")}

    def in_parts(self, key: str, query: dict[str, list[str]], body: bytes) -> tuple[int, bytes, dict[str, str]]:
        """One request of an upload in parts: begun, a part of it, put together, or given up."""
        if "uploads" in query:
            name = str(next(NUMBERS))
            UPLOADS[name] = (self.meta(), {})
            told = f"<Bucket>bucket</Bucket><Key>{escape(key)}</Key><UploadId>{name}</UploadId>"
            return 200, f"<InitiateMultipartUploadResult>{told}</InitiateMultipartUploadResult>".encode(), {}
        name = query["uploadId"][0]
        if name not in UPLOADS:
            return 404, b"<Error><Code>NoSuchUpload</Code></Error>", {}
        meta, parts = UPLOADS[name]
        if self.command == "PUT":
            parts[int(query["partNumber"][0])] = body
            return 200, b"", {"ETag": '"part"'}
        del UPLOADS[name]
        if self.command == "DELETE":
            return 204, b"", {}
        OBJECTS[key] = (b"".join(data for _, data in sorted(parts.items())), meta)
        return 200, b'<CompleteMultipartUploadResult><ETag>"1"</ETag></CompleteMultipartUploadResult>', {"x-goog-generation": "1"}

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silence."""


def listing(query: dict[str, list[str]]) -> bytes:
    prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
    files, folders = [], set()
    for key, (data, _) in sorted(OBJECTS.items()):
        rest = key.removeprefix(prefix)
        if key.startswith(prefix) and delimiter and delimiter in rest:
            folders.add(prefix + rest.partition(delimiter)[0] + delimiter)
        elif key.startswith(prefix):
            modified = "2026-01-01T00:00:00.000Z"
            fields = f"<Key>{escape(key)}</Key><LastModified>{modified}</LastModified><Size>{len(data)}</Size><ETag>1</ETag>"
            files.append(f"<Contents>{fields}</Contents>")
    common = "".join(f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in sorted(folders))
    return f"<ListBucketResult>{''.join(files)}{common}</ListBucketResult>".encode()


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
