"""One real run under strace: no reply leaves before its record is written and the fence was looked at, no checkpoint is
unlinked before the record of its death is durable."""

from __future__ import annotations

import re
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from holdfast._core.events import CheckpointDropped, DecisionMade, Event
from holdfast._journal import read
from holdfast._worker.protocol import Answer, FrameReader, decode_to_worker
from holdfast.testing.history import check_history
from integration.drivers import Start, Task, acknowledged

CALLS = "write,sendto,fsync,fdatasync,stat,newfstatat,unlink,unlinkat,rmdir,clone,clone3"
LINE = re.compile(r"^(?P<pid>\d+) +(?P<call>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+|\?)(?P<rest>.*)$")
UNFINISHED = re.compile(r"^(?P<pid>\d+) +(?P<head>(?P<call>\w+)\(.*) <unfinished \.\.\.>$")
RESUMED = re.compile(r"^(?P<pid>\d+) +<\.\.\. (?P<call>\w+) resumed>(?P<tail>.*)$")
CLAIM = "journal/epochs/00000002"
CHECKPOINT = re.compile(r"/(?P<dirname>[^/]+)/checkpoint_(?P<index>\d{6})(?=[/\">])")


@dataclass(frozen=True)
class Call:
    """A system call of the driver: where in the trace it began and ended, and what it was."""

    began: int
    ended: int
    name: str
    arguments: str
    result: str

    def data(self) -> bytes:
        """The bytes that it wrote or sent."""
        text = re.search(r'"((?:\\x[0-9a-f]{2})*)"', self.arguments)
        assert text is not None, self
        return bytes.fromhex(text[1].replace("\\x", ""))

    def clear(self) -> str:
        """Its arguments in clear: strace gives strings, and the paths that descriptors stand for, in hexadecimal."""
        return re.sub(r"(?:\\x[0-9a-f]{2})+", lambda text: _plain(text[0]), self.arguments)


def _plain(text: str) -> str:
    return bytes.fromhex(text.replace("\\x", "")).decode(errors="replace")


def calls_of_driver(trace: Path) -> list[Call]:
    """The driver's calls, of all its threads, in the order in which they ended."""
    found, begun, ours = [], dict[str, tuple[int, str]](), set[str]()
    for number, text in enumerate(trace.read_text().splitlines()):
        at, line = number, text
        if (half := UNFINISHED.match(line)) is not None:
            begun[half["pid"]] = (number, half["head"])
            continue
        if (rest := RESUMED.match(line)) is not None:
            at, head = begun.pop(rest["pid"])
            line = f"{rest['pid']} {head}{rest['tail']}"
        whole = LINE.match(line)
        if whole is None:
            continue  # a signal, an exit
        ours = ours or {whole["pid"]}
        if whole["pid"] in ours:
            if whole["call"].startswith("clone") and "CLONE_THREAD" in whole["arguments"]:
                ours.add(whole["result"])
            found.append(Call(at, number, whole["call"], whole["arguments"], whole["result"]))
    return found


def replies(calls: list[Call]) -> Iterator[tuple[Call, Answer]]:
    """What the driver sent to workers in answer to their reports."""
    for call in calls:
        if call.name == "sendto":
            data = call.data()
            if len(data) > 4 and struct.unpack_from("<I", data)[0] == len(data) - 4:
                for body in FrameReader().feed(data):
                    message = decode_to_worker(body)
                    if isinstance(message, Answer):
                        yield call, message


@pytest.fixture
def traced(tmp_path: Path, start: Start) -> tuple[Task, list[Call]]:
    """A run of an experiment that drops checkpoints, and its trace."""
    strace = shutil.which("strace")
    assert strace is not None, "this test needs strace: apt-get install strace"
    trace = tmp_path / "trace"
    task = Task(str(tmp_path / "results"), str(tmp_path / "side"), rows=8, samples=3, num_to_keep=2)
    start(
        task, before=(strace, "-f", "--seccomp-bpf", "-y", "-xx", "-s", "65536", "-e", f"trace={CALLS}", "-o", str(trace))
    ).finish()
    assert check_history(task.storage, acknowledged(task.side)) == []
    return task, calls_of_driver(trace)


def test_replies_and_deletions_come_after_what_they_rest_on(traced: tuple[Task, list[Call]]) -> None:
    task, calls = traced
    ends = _ends_of_records(task, calls)
    looks = [call for call in calls if call.name in ("stat", "newfstatat") and f'{CLAIM}"' in call.clear()]
    assert {look.result for look in looks} == {"-1"}, "nobody else claimed"
    answered = 0
    for call, answer in replies(calls):
        _, written = ends[answer.trial_id, answer.number, "decision"]
        assert any(written.ended < look.began and look.ended < call.began for look in looks), (answer, written, call)
        answered += 1
    assert answered == 3 * 8
    syncs = [call for call in calls if call.name in ("fsync", "fdatasync") and ".log>" in _descriptor(call)]
    removed = dict[tuple[str, int], Call]()
    for call in calls:
        if call.name in ("unlink", "unlinkat", "rmdir") and (found := CHECKPOINT.search(call.clear())) is not None:
            removed.setdefault((found["dirname"], int(found["index"])), call)
    dirnames = {trial.trial_id: trial.dirname for trial in _state(task).trials.values()}
    dropped = 0
    for (trial_id, index, kind), (_, written) in ends.items():
        if kind == "drop":
            first = removed.pop((dirnames[trial_id], index))
            assert any(written.ended < sync.began and sync.ended < first.began for sync in syncs), (trial_id, index, first)
            dropped += 1
    assert dropped == 3 * 6
    assert removed == {}, "checkpoints were removed that no record drops"


def _state(task: Task):
    from holdfast._projection.history import load_state

    return load_state(task.storage)


def _descriptor(call: Call) -> str:
    return call.clear().partition(",")[0]


def _ends_of_records(task: Task, calls: list[Call]) -> dict[tuple[str, int, str], tuple[Event, Call]]:
    """Decisions and drops, each with the `write` that put it into the journal: found by the bytes of its frame."""
    from holdfast._journal.codec import encode_record

    writes = [(call, call.data()) for call in calls if call.name == "write" and ".log>" in _descriptor(call)]
    found = dict[tuple[str, int, str], tuple[Event, Call]]()
    for record in read(task.storage):
        event = record.event
        if isinstance(event, (DecisionMade, CheckpointDropped)):
            payload = encode_record(record)
            write = next(call for call, data in writes if payload in data)
            number, kind = (event.number, "decision") if isinstance(event, DecisionMade) else (event.index, "drop")
            found[event.trial_id, number, kind] = (event, write)
    return found
