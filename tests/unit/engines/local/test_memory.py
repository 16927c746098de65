"""Trees that use too much are ended; what others share counts for its part."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from holdfast.engines.local.memory import MemoryWatch, in_bytes, memory_of

MIB = 2**20
GROWS = "import sys, time\nsys.stdin.readline()\nheld = b'x' * (120 << 20)\nprint('up', flush=True)\ntime.sleep(60)"
BELOW = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {GROWS!r}], start_new_session=True)"


@pytest.fixture
def watch() -> Iterator[MemoryWatch]:
    made = MemoryWatch(interval_s=0.01)
    yield made
    made.close()
    assert "holdfast-memory" not in [thread.name for thread in threading.enumerate()]


def started(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def grow(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.write(b"go\n")
    process.stdin.flush()


@pytest.mark.parametrize("code", [GROWS, BELOW])
def test_a_tree_above_its_limit_is_ended(watch: MemoryWatch, code: str) -> None:
    with started(code) as process:
        watch.watch("a", process.pid, 100 * MIB)
        grow(process)
        assert process.wait(30) == -9
        assert process.stdout is not None
        process.stdout.close()
        use = watch.forget("a")
    assert use is not None
    assert use.over > use.limit == 100 * MIB
    assert use.peak >= use.over
    assert watch.forget("a") is None


def test_one_below_its_limit_is_left_alone_and_its_peak_is_told(watch: MemoryWatch) -> None:
    with started(GROWS) as process, started("import time; time.sleep(60)") as other:
        grow(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        watch.watch("a", process.pid, 2**40)
        watch.watch("b", other.pid, 1)
        assert other.wait(30) == -9  # whoever looked at this one has looked at the first as well
        assert process.poll() is None
        use = watch.forget("a")
        process.kill()
    assert use is not None
    assert use.over == 0
    assert use.peak > 120 * MIB


def test_what_many_share_counts_once_in_all() -> None:
    """Three processes that map the same 120 MiB use 40 MiB each, and none exceeds 100 MiB."""
    code = (
        "import mmap, os, sys\n"
        "file = os.memfd_create('shared'); os.ftruncate(file, 120 << 20)\n"
        "shared = mmap.mmap(file, 120 << 20); shared[:] = b'x' * (120 << 20)\n"
        "pids = []\n"
        "for _ in range(2):\n"
        "    pid = os.fork()\n"
        "    if not pid:\n"
        "        sum(shared[::4096]); os.write(1, b'%d\\n' % os.getpid()); sys.stdin.read(); os._exit(0)\n"
        "    pids.append(pid)\n"
        "os.write(1, b'%d\\n' % os.getpid()); sys.stdin.read()\n"
        "[os.waitpid(pid, 0) for pid in pids]\n"
    )
    with started(code) as process:
        assert process.stdout is not None
        pids = [int(process.stdout.readline()) for _ in range(3)]
        for pid in pids:
            assert memory_of([pid], 2**40) > 120 * MIB
            assert 40 * MIB <= memory_of([pid], 100 * MIB) < 100 * MIB
        assert 120 * MIB <= memory_of(pids, 1) < 240 * MIB
        grow(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 0


def test_one_that_is_gone_is_not_watched(watch: MemoryWatch) -> None:
    with started("pass") as process:
        process.wait(30)
    watch.watch("a", process.pid, 1)
    assert watch.forget("a") is None


@pytest.mark.parametrize(
    ("count", "text"), [(12, "12 bytes"), (2048, "2 KiB"), (1.5 * MIB, "1.5 MiB"), (3 * 2**30, "3 GiB"), (2**42, "4096 GiB")]
)
def test_amounts_are_told_in_units(count: float, text: str) -> None:
    assert in_bytes(count) == text


def test_this_process_has_what_it_has() -> None:
    from holdfast._worker.processes import most_memory

    before = most_memory()
    held = b"x" * (64 * MIB)
    assert most_memory() >= max(before, len(held))
