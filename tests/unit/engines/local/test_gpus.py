"""Which GPUs there are, and who is given which: with counts that nobody needs to have."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from holdfast.engines.local import gpus as module
from holdfast.engines.local.gpus import Gpus, gpu_ids


@pytest.fixture(autouse=True)
def _asked_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    module._gpu_ids.cache_clear()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setitem(sys.modules, "pynvml", None)  # as if it were not installed
    yield
    module._gpu_ids.cache_clear()


def test_whole_ones_are_nobody_elses() -> None:
    gpus = Gpus(3, ["0", "1", "2"])
    assert gpus.take("a", 2) == ("0", "1")
    assert gpus.take("b", 2) is None
    assert gpus.take("c", 1) == ("2",)
    gpus.give_back("a")
    assert gpus.take("b", 2) == ("0", "1")


def test_fractions_share_one_and_fill_it_before_the_next() -> None:
    gpus = Gpus(2, ["7", "5"])
    assert [gpus.take(who, 0.3) for who in "abc"] == [("7",)] * 3
    assert gpus.take("d", 0.3) == ("5",)
    assert gpus.take("whole", 1) is None
    gpus.give_back("d")
    assert gpus.take("whole", 1) == ("5",)
    gpus.give_back("b")
    assert gpus.take("e", 0.4) == ("7",)


def test_what_is_left_in_pieces_is_no_gpu() -> None:
    gpus = Gpus(2, ["0", "1"])
    assert (gpus.take("a", 0.6), gpus.take("b", 0.6)) == (("0",), ("1",))
    assert gpus.take("c", 0.6) is None
    gpus.give_back("b")
    assert gpus.take("c", 0.6) == ("1",)


def test_tenths_add_up() -> None:
    gpus = Gpus(1, ["0"])
    assert all(gpus.take(number, 0.1) for number in range(10))
    assert gpus.take("more", 0.1) is None


def test_there_may_be_half_a_gpu_or_more_than_have_names() -> None:
    half = Gpus(1.5, ["0"])
    assert half.take("a", 1) == ("0",)
    assert half.take("b", 0.5) == ("1",)
    assert half.take("c", 0.1) is None
    assert Gpus(0, ["0", "1"]).take("a", 0.1) is None
    assert Gpus(0, []).take("a", 0) == ()


def test_whatever_comes_and_goes_none_is_given_twice() -> None:
    seed = 20261122
    lots = random.Random(seed)
    gpus, given = Gpus(4, list("0123")), dict[int, tuple[tuple[str, ...], float]]()
    for number in range(3000):
        if given and lots.random() < 0.5:
            who = lots.choice(sorted(given))
            del given[who]
            gpus.give_back(who)
            gpus.give_back(who)
        else:
            amount = lots.choice([0.1, 0.25, 0.5, 0.7, 1, 2, 3])
            taken = gpus.take(number, amount)
            if taken is not None:
                given[number] = taken, min(amount, 1)
        for name in "0123":
            used = [part for names, part in given.values() if name in names]
            assert sum(used) <= 1 + 1e-6, f"seed {seed}, step {number}"
    for who in given:
        gpus.give_back(who)
    assert gpus.take("all", 4) == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
        ("2,0", ("2", "0")),
        ("0, 1,-1,3", ("0", "1")),
        ("GPU-8932f937,MIG-5c89", ("GPU-8932f937", "MIG-5c89")),
    ],
)
def test_what_cuda_is_told_is_what_there_is(monkeypatch: pytest.MonkeyPatch, visible: str, names: tuple[str, ...]) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_ids() == names


def test_nvml_is_asked_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    class NVMLError(Exception):
        pass

    def fail() -> None:
        raise NVMLError

    nvml = SimpleNamespace(nvmlInit=lambda: None, nvmlShutdown=lambda: None, nvmlDeviceGetCount=lambda: 3, NVMLError=NVMLError)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert gpu_ids() == ("0", "1", "2")
    module._gpu_ids.cache_clear()
    nvml.nvmlInit = fail
    assert gpu_ids() == ()


def test_nvidia_smi_is_asked_otherwise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_ids() == ()
    module._gpu_ids.cache_clear()
    listed = "GPU 0: NVIDIA H200 (UUID: GPU-1)\n  MIG 1g.18gb Device 0: (UUID: MIG-1)\nGPU 1: NVIDIA H200 (UUID: GPU-2)\n"
    command = tmp_path / "nvidia-smi"
    command.write_text(f"#!/bin/sh\nprintf '%s' '{listed}'\n")
    command.chmod(0o755)
    assert gpu_ids() == ("0", "1")
