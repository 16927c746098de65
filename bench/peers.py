"""The physical limits: the same work with nothing around it. Run as a script; prints its result as JSON.

Imports stand inside the functions, so that each peer's process holds only what it measures.
"""

from __future__ import annotations

import sys


def forks(count: int) -> float:
    """Fork + _exit + wait per second, two in flight, from a process with the modules that a trial's server holds."""
    import gc
    import importlib
    import os
    import pkgutil
    import time

    for name in ("cloudpickle", "msgspec", "holdfast.session", "holdfast.checkpoint", "holdfast.values"):
        importlib.import_module(name)
    worker = importlib.import_module("holdfast._worker")
    for module in pkgutil.iter_modules(worker.__path__, "holdfast._worker."):
        importlib.import_module(module.name)
    gc.freeze()

    def fork() -> None:
        if os.fork() == 0:
            os._exit(0)

    began = time.perf_counter()
    fork()
    for _ in range(count - 1):
        fork()
        os.wait()
    os.wait()
    return count / (time.perf_counter() - began)


def rebirths(count: int) -> float:
    """Milliseconds from a child's death by SIGKILL to the first line of the one that is forked for it; the median."""
    import os
    import signal
    import statistics
    import time

    times = []
    for _ in range(count):
        told, telling = os.pipe()
        if os.fork() == 0:
            os.write(telling, str(time.monotonic()).encode())
            os.kill(os.getpid(), signal.SIGKILL)
        os.wait()
        if os.fork() == 0:
            os.write(telling, f" {time.monotonic()}".encode())
            os._exit(0)
        os.wait()
        before, after = map(float, os.read(told, 100).split())
        times.append(1000 * (after - before))
        os.close(told)
        os.close(telling)
    return statistics.median(times)


def round_trips(count: int, children: int) -> float:
    """Messages per second, children against one parent, each waiting for its answer: a row out, a word back."""
    import os
    import select
    import socket
    import struct
    import time

    import msgspec

    from holdfast._core.events import ResultReported

    size = struct.Struct("<I")
    encode, decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(ResultReported).decode
    metrics = encode({"score": 1000, "loss": 0.001})

    def child(end: socket.socket) -> None:
        answer = msgspec.msgpack.Decoder().decode
        for number in range(1, count + 1):
            row = ResultReported("abcde_00000", 1, number, metrics, number, 0.001, 1.5, 1.5, number, 1.7e9)
            data = encode(row)
            end.sendall(size.pack(len(data)) + data)
            answer(end.recv(4096)[4:])
        end.close()
        os._exit(0)

    ends, pids = {}, []
    poll = select.epoll()
    for _ in range(children):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        pids.append(os.fork())
        if pids[-1] == 0:
            ours.close()
            child(theirs)
        theirs.close()
        ends[ours.fileno()] = ours
        poll.register(ours, select.EPOLLIN)
    began = time.perf_counter()
    open_ends = children
    while open_ends:
        for number, _ in poll.poll():
            data = ends[number].recv(65536)
            if not data:
                poll.unregister(number)
                open_ends -= 1
                continue
            if size.unpack_from(data)[0] != len(data) - 4:
                raise RuntimeError("a message came in pieces, which one in flight never does")
            row = decode(memoryview(data)[4:])
            reply = encode(["reply", row.number, "CONTINUE"])
            ends[number].sendall(size.pack(len(reply)) + reply)
    took = time.perf_counter() - began
    for pid in pids:
        os.waitpid(pid, 0)
    return children * count / took


def appends(count: int, folder: str) -> float:
    """Appends of 256 bytes per second, each fsynced."""
    import os
    import time

    file = os.open(os.path.join(folder, "appends"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    block = b"x" * 256
    began = time.perf_counter()
    for _ in range(count):
        os.write(file, block)
        os.fsync(file)
    took = time.perf_counter() - began
    os.close(file)
    return count / took


def read_all(folder: str) -> float:
    """Seconds to read and check-sum all files of a directory."""
    import os
    import time
    import zlib

    began = time.perf_counter()
    for where, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(where, name), "rb") as file:
                zlib.crc32(file.read())
    return time.perf_counter() - began


if __name__ == "__main__":
    import json

    def value(text: str) -> int | str:
        return int(text) if text.isdigit() else text

    print(json.dumps(globals()[sys.argv[1]](*map(value, sys.argv[2:]))))
