"""What is said of a worker that ended without a word."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from holdfast.engines.local import post_mortem as module
from holdfast.engines.local.fleet import workplace_of
from holdfast.engines.local.memory import Use
from holdfast.engines.local.post_mortem import Death, OomKills, post_mortem
from holdfast.testing.engine_stage import make_job, make_order

MIB = 2**20
KILLED, ABORTED = int(signal.SIGKILL), int(signal.SIGABRT)


@pytest.mark.parametrize(
    ("death", "kind", "words"),
    [
        (Death(7, 3 << 8), "worker", "ended with exit code 3 without a word"),
        (Death(7, ABORTED), "worker", "killed by signal 6 (SIGABRT)"),
        (Death(7, KILLED), "worker", "killed by signal 9 (SIGKILL)"),
        (Death(7, None), "worker", "the process that had started it was lost"),
        (Death(7, KILLED, Use(90 * MIB, 100 * MIB, 0)), "worker", "killed by signal 9"),
        (Death(7, KILLED, Use(300 * MIB, 100 * MIB, 200 * MIB)), "oom", "used 200 MiB of memory and is given 100 MiB"),
        (Death(7, KILLED, unexplained=True), "oom", "killed by the kernel"),
    ],
)
def test_each_end_has_its_kind_and_its_words(tmp_path: Path, death: Death, kind: str, words: str) -> None:
    order = make_order()
    os.mkdir(tmp_path / order.dirname)
    failure = post_mortem(workplace_of(make_job(tmp_path, print)), order, death)
    assert failure.kind == kind
    assert words in failure.message


def test_each_of_the_kernels_kills_explains_one_death(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 5
    monkeypatch.setattr(module, "oom_kills", lambda: count)
    kills = OomKills()
    assert not kills.another(KILLED)
    count = 6
    assert not kills.another(ABORTED)
    assert not kills.another(None)
    assert kills.another(KILLED)
    assert not kills.another(KILLED), "that one is accounted for"
