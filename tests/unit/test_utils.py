"""What may be asked before a long run."""

from __future__ import annotations

import functools
import os
import random
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from holdfast.errors import GpuNotFree, RestoreDiffers, TuneError
from holdfast.trainable import Trainable
from holdfast.utils import diagnose_serialization, validate_save_restore, wait_for_gpu


class Walk(Trainable):
    """A random walk by the global generators."""

    def setup(self, config):
        self.at = config.get("start", 0.0)
        self.left = []

    def step(self):
        self.at += random.random() + np.random.random()
        return {"at": self.at, "deep": {"list": [self.at, {"a": np.float64(self.at)}]}, "took": time.perf_counter()}

    def save_checkpoint(self, checkpoint_dir):
        return {"at": self.at}

    def load_checkpoint(self, checkpoint):
        self.at = checkpoint["at"]

    def cleanup(self):
        COUNT.append(1)


COUNT: list[int] = []


def test_a_trainable_that_comes_back_passes() -> None:
    COUNT.clear()
    assert validate_save_restore(Walk, {"start": 1.0}) is True
    assert len(COUNT) == 3, "each instance cleans up"


def test_the_generators_are_put_back() -> None:
    class Still(Walk):
        def step(self):
            return {"at": 0}

    before = random.getstate(), np.random.get_state()[1].tolist()
    validate_save_restore(Still)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_what_is_not_saved_is_named() -> None:
    class Forgetful(Walk):
        def load_checkpoint(self, checkpoint):
            self.at = 0.0

    with pytest.raises(RestoreDiffers, match="In iteration 4 the restored trainable reports at=") as caught:
        validate_save_restore(Forgetful)
    assert (caught.value.iteration, caught.value.key) == (4, "at")
    assert isinstance(caught.value, AssertionError)


def test_a_generator_of_its_own_that_is_not_saved_is_found() -> None:
    class Own(Walk):
        def setup(self, config):
            super().setup(config)
            self.random = random.Random(3)

        def step(self):
            return {"drawn": self.random.random()}

    with pytest.raises(RestoreDiffers, match="drawn="):
        validate_save_restore(Own)


def test_what_the_trainable_raises_comes_through() -> None:
    class Broken(Walk):
        def load_checkpoint(self, checkpoint):
            raise KeyError("weights")

    with pytest.raises(KeyError, match="weights"):
        validate_save_restore(Broken)
    with pytest.raises(ValueError, match=r"takes a subclass of holdfast\.Trainable"):
        validate_save_restore(print)  # type: ignore[arg-type]


def test_a_trainable_that_travels_is_true() -> None:
    def train(config):
        return threading.Event()

    assert diagnose_serialization(train) is True
    assert diagnose_serialization(Walk) is True


def test_the_innermost_object_that_cannot_travel_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    lock = threading.Lock()
    table = {"deep": [1, lock]}

    def train(config):
        return table

    assert diagnose_serialization(train) == {lock}
    assert "variable 'table', ['deep'], [1]" in capsys.readouterr().out


def test_partials_methods_defaults_and_objects_are_looked_into() -> None:
    one, two, three = threading.Lock(), threading.Lock(), threading.Lock()

    class Holder:
        def __init__(self):
            self.lock = two

        def train(self, config):
            return 1

    def with_default(config, lock=three):
        return 1

    assert diagnose_serialization(functools.partial(print, one)) == {one}
    assert diagnose_serialization(Holder().train) == {two}
    assert diagnose_serialization(with_default) == {three}


def test_an_object_that_refuses_by_itself_and_has_no_hash_is_given_as_text() -> None:
    class Refusing:
        __hash__ = None  # type: ignore[assignment]

        def __reduce__(self):
            raise RuntimeError("not me")

        def __repr__(self):
            return "<refusing>"

    thing = Refusing()

    def train(config):
        return thing

    assert diagnose_serialization(train) == {"<refusing>"}


@pytest.fixture
def nvidia(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose `nvidia-smi` says what a file holds; one line is taken off at each call, the last stays."""
    said = tmp_path / "said"
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f'#!/bin/sh\nhead -n 1 {said} | tr ";" "\\n"\n[ $(wc -l < {said}) -gt 1 ] && sed -i 1d {said}\nexit 0\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return said


def test_a_free_gpu_is_not_waited_for(nvidia: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia.write_text("0, GPU-aaa, 40000, 80000;1, GPU-bbb, 400, 80000\n")
    assert wait_for_gpu(1, retry=1)
    assert wait_for_gpu("GPU-bbb", retry=1)
    assert wait_for_gpu(0, target_util=0.6, retry=1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    assert wait_for_gpu(retry=1)


def test_a_gpu_that_becomes_free_is_waited_for(nvidia: Path) -> None:
    nvidia.write_text("0, GPU-aaa, 40000, 80000\n0, GPU-aaa, 1000, 80000\n0, GPU-aaa, 0, 80000\n")
    assert wait_for_gpu(delay_s=0)


def test_a_gpu_that_stays_taken_is_an_error(nvidia: Path) -> None:
    nvidia.write_text("0, GPU-aaa, 40000, 80000\n")
    with pytest.raises(RuntimeError, match="in 2 looks: 50% of it are taken"):
        wait_for_gpu(0, retry=2, delay_s=0)


def test_what_wait_for_gpu_refuses(nvidia: Path) -> None:
    nvidia.write_text("0, GPU-aaa, 0, 80000\n")
    with pytest.raises(TypeError, match="the number of a GPU"):
        wait_for_gpu(1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"there is no such GPU; there are .*GPU-aaa"):
        wait_for_gpu(7)
    with pytest.raises(ValueError, match="is gone"):
        wait_for_gpu(0, gpu_memory_limit=0.5)


def test_a_machine_without_a_gpu_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GpuNotFree, match="nvidia-smi"):
        wait_for_gpu(0)
    assert issubclass(GpuNotFree, TuneError)
