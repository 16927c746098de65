"""The journal on a real S3 server: drivers that are killed, stopped and overtaken, and a network that loses things."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from fault_proxy import FaultProxy
from holdfast._core.events import Woke
from holdfast._journal import Owner, open_journal, read, verify
from holdfast.clock import SystemClock
from holdfast.errors import ExperimentBusy, Fenced
from holdfast.storage.object_store import ObjectStorage
from holdfast.storage.uri import open_place, parse
from journal_tools import born, note, put

SEED = 20261128
DRIVER = """
import sys
from holdfast._journal import Owner, open_journal
from holdfast.clock import SystemClock
from holdfast.storage.uri import open_place, parse
from journal_tools import note, put

uri, name, takeover = sys.argv[1:4]
journal = open_journal(open_place(parse(uri)), owner=Owner.of_this_process(), clock=SystemClock(), takeover=takeover == "yes")
number = 0
while True:
    put(journal, [note(f"{name} {number} {part}") for part in "ab"])
    print(f"acknowledged {number}", flush=True)
    if number % 7 == 3:
        journal.sync()
        print(f"durable {number}", flush=True)
    number += 1
    if not sys.stdin.readline():
        break
"""


@pytest.fixture
def uri(place: str) -> str:
    """A place with a journal that nobody has opened yet."""
    born(open_place(parse(place)))
    return place


class Driver:
    """A process that appends two records for each line that it is sent, and says what was acknowledged and what is durable."""

    def __init__(self, uri: str, name: str, *, takeover: bool = False, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, uri, name, "yes" if takeover else "no"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **environment},
            text=True,
            bufsize=1,
        )
        self.name = name
        self.acknowledged = self.durable = 0

    def go(self, batches: int) -> None:
        for _ in range(batches):
            while not (said := self.process.stdout.readline()).startswith("acknowledged"):
                assert said, self.process.stderr.read()
                self.durable = int(said.split()[1]) + 1
            self.acknowledged = int(said.split()[1]) + 1
            self.process.stdin.write("go\n")

    def end(self) -> None:
        for number in (signal.SIGKILL, signal.SIGCONT):
            if self.process.poll() is None:
                self.process.send_signal(number)
        self.process.wait(20)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            try:
                stream.close()
            except BrokenPipeError:
                pass

    def words(self, batches: int) -> list[str]:
        return [f"{self.name} {number} {part}" for number in range(batches) for part in "ab"]


def words(storage: ObjectStorage) -> list[str]:
    return [record.event.order for record in read(storage) if isinstance(record.event, Woke)]


def take_over(storage: ObjectStorage):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return open_journal(storage, owner=Owner.of_this_process(), clock=SystemClock(), takeover=True)


@pytest.mark.parametrize("where", ["same machine", "another machine"])
@pytest.mark.parametrize("round_", range(3))
def test_a_driver_killed_at_random(uri, where, round_, tmp_path, monkeypatch):
    """On the same machine all that was acknowledged comes back; elsewhere, all that was durable."""
    chance = random.Random(f"{SEED}/{where}/{round_}")
    driver = Driver(uri, "first")
    try:
        driver.go(chance.randint(5, 80))
    finally:
        driver.end()
    if where == "another machine":
        monkeypatch.setenv("HOLDFAST_CACHE_DIR", str(tmp_path / "elsewhere"))
    storage = open_place(parse(uri))
    journal = take_over(storage)
    put(journal, [note("heir")])
    journal.close()
    found = words(storage)
    assert found[-1] == "heir"
    kept = found[:-1]
    assert kept == driver.words(100)[: len(kept)]
    assert len(kept) >= 2 * (driver.acknowledged if where == "same machine" else driver.durable)
    assert verify(storage) == []


def test_a_living_driver_is_named_and_left_alone(uri):
    driver = Driver(uri, "first")
    try:
        driver.go(3)
        with pytest.raises(ExperimentBusy, match=f"pid {driver.process.pid} on host"):
            open_journal(open_place(parse(uri)), owner=Owner.of_this_process(), clock=SystemClock())
        driver.go(3)
    finally:
        driver.end()


@pytest.mark.parametrize("where", ["same machine", "another machine"])
def test_a_stopped_driver_that_was_overtaken_wakes_up_fenced(uri, where, tmp_path, monkeypatch):
    driver = Driver(uri, "first")
    try:
        driver.go(30)
        driver.process.send_signal(signal.SIGSTOP)
        if where == "another machine":
            monkeypatch.setenv("HOLDFAST_CACHE_DIR", str(tmp_path / "elsewhere"))
        storage = open_place(parse(uri))
        journal = take_over(storage)
        put(journal, [note("second")])
        journal.sync()
        before = words(storage)
        driver.process.send_signal(signal.SIGCONT)
        deadline = time.monotonic() + 30
        while driver.process.poll() is None:
            assert time.monotonic() < deadline
            try:
                driver.process.stdin.write("go\n")
            except BrokenPipeError:
                pass
            driver.process.stdout.readline()
        assert "Fenced" in driver.process.stderr.read()
        put(journal, [note("third")])
        journal.close()
    finally:
        driver.end()
    assert words(storage) == [*before, "third"]
    kept = before[:-1]
    assert kept == driver.words(100)[: len(kept)]
    assert len(kept) >= 2 * (driver.acknowledged if where == "same machine" else driver.durable)


@pytest.mark.parametrize("round_", range(3))
def test_a_network_that_loses_delays_and_refuses_changes_nothing(uri, server, round_):
    """A third of all requests is dropped, carried out without a reply, refused or cut; two drivers after one another."""
    chance = random.Random(f"{SEED}/{round_}")
    faults = ["drop before", "drop after", "503", "429", "409", "500", "truncate"]
    with FaultProxy(server.port, lambda *_: chance.choice(faults) if chance.random() < 0.3 else "") as proxy:
        storage = open_place(parse(uri.replace(f"%3A{server.port}", f"%3A{proxy.port}")))
        expected = []
        for name in ("first", "second"):
            journal = take_over(storage)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for number in range(40):
                    put(journal, [note(f"{name} {number}")])
                    expected.append(f"{name} {number}")
                    if number % 3 == 0:
                        journal.sync()
                journal.close()
        assert words(storage) == expected
        assert len({did for _, did in proxy.log} & set(faults)) >= 4
    assert words(open_place(parse(uri))) == expected
    assert verify(open_place(parse(uri))) == []


def test_a_driver_overtaken_through_a_bad_network_is_fenced(uri, server):
    chance = random.Random(SEED)
    with FaultProxy(server.port, lambda *_: chance.choice(["drop after", "503"]) if chance.random() < 0.3 else "") as proxy:
        storage = open_place(parse(uri.replace(f"%3A{server.port}", f"%3A{proxy.port}")))
        first = take_over(storage)
        put(first, [note("first")])
        first.sync()
        second = take_over(storage)
        put(second, [note("second")])
        second.sync()
        with pytest.raises(Fenced):
            put(first, [note("late")])
            first.sync()
        first.close()
        second.close()
        assert words(storage) == ["first", "second"]
