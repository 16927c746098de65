"""What a network file system does to its callers: stale handles, lost answers, files that are kept open elsewhere."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import holdfast as tune
from holdfast._journal.slots.slot import SLOTS
from holdfast.errors import StorageError
from holdfast.storage import network
from holdfast.storage.local import LocalStorage
from holdfast.storage.network import NetworkStorage
from holdfast.storage.posix import PosixStorage
from holdfast.testing.history import check_history


@pytest.fixture
def storage(tmp_path: Path) -> NetworkStorage:
    return NetworkStorage(tmp_path / "experiment")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "_PAUSES_S", (0.0, 0.0, 0.0))


def stale(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, times: int, *, after: bool = False, number: int = errno.ESTALE
) -> None:
    """Has a system call fail so many times, before it does anything or `after` it has."""
    real: Callable[..., Any] = getattr(owner, name)
    left = [times]

    def call(*args: Any, **options: Any) -> Any:
        if left[0] > 0:
            left[0] -= 1
            if after:
                real(*args, **options)
            raise OSError(number, os.strerror(number))
        return real(*args, **options)

    monkeypatch.setattr(owner, name, call)


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EEXIST])
def test_a_link_whose_answer_was_lost_is_known_again(storage: NetworkStorage, monkeypatch, number: int) -> None:
    """The server made it; the client, asking again, is told that it is there, or that its handle is stale."""
    stale(monkeypatch, os, "link", 1, after=True, number=number)
    assert storage.put_if_absent("a/b", b"mine")
    assert not storage.put_if_absent("a/b", b"mine")
    assert storage.read("a/b") == b"mine"
    assert storage.sweep("a") == 0


def test_a_link_that_was_not_made_is_made_again(storage: NetworkStorage, monkeypatch) -> None:
    stale(monkeypatch, os, "link", 2)
    assert storage.put_if_absent("a/b", b"mine")
    stale(monkeypatch, os, "link", 2)
    assert not storage.put_if_absent("a/b", b"yours")
    assert storage.read("a/b") == b"mine"


@pytest.mark.parametrize(("owner", "name"), [(os, "open"), (os, "fsync"), (os, "replace")])
def test_stale_handles_while_a_file_is_put(storage: NetworkStorage, monkeypatch, owner: Any, name: str) -> None:
    storage.put("d/a", b"old")
    stale(monkeypatch, owner, name, 1)
    storage.put("d/a", b"new")
    assert storage.read("d/a") == b"new"
    stale(monkeypatch, owner, name, 1)
    assert storage.put_if_absent("d/b", b"x")
    assert storage.sweep("d") == 0


def test_stale_handles_while_reading_listing_and_looking(storage: NetworkStorage, monkeypatch) -> None:
    storage.put("d/a", b"data")
    stale(monkeypatch, os, "stat", 1)
    assert storage.exists("d/a")
    stale(monkeypatch, os, "listdir", 2)
    assert storage.names("d") == ["a"]
    stale(monkeypatch, shutil, "rmtree", 1)
    storage.delete("d")
    assert not storage.exists("d")


def test_a_handle_that_stays_stale_is_an_error(storage: NetworkStorage, monkeypatch) -> None:
    storage.put("d/a", b"data")
    stale(monkeypatch, os, "listdir", 99)
    with pytest.raises(StorageError) as caught:
        storage.names("d")
    assert caught.value.errno == errno.ESTALE


def test_what_is_removed_and_still_open_is_not_there(storage: NetworkStorage, monkeypatch) -> None:
    """An NFS client gives such a file another name until its last user closes it; its directory cannot go before."""
    storage.put("d/sub/.nfs0001", b"")
    storage.put("d/.nfs0002", b"")
    assert storage.names("d") == ["sub"]
    stale(monkeypatch, shutil, "rmtree", 1, number=errno.ENOTEMPTY)
    storage.delete("d")
    storage.put("d/a", b"")
    stale(monkeypatch, shutil, "rmtree", 1, number=errno.ENOTEMPTY)
    with pytest.raises(StorageError):
        storage.delete("d")


def train(config: dict) -> None:
    start = 0
    if tune.get_checkpoint():
        with tune.get_checkpoint().as_directory() as folder:
            start = int(Path(folder, "i").read_text()) + 1
    for i in range(start, 4):
        Path("model").mkdir(exist_ok=True)
        Path("model", "i").write_text(str(i))
        tune.report({"i": i}, checkpoint=tune.Checkpoint.from_directory("model"))
        if i == config["fails_at"] and not start:
            raise ValueError("once")


def test_an_experiment_lives_there_on_slots(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("holdfast.storage.opening.is_local", lambda _: False)
    monkeypatch.setenv("HOLDFAST_CACHE_DIR", str(tmp_path / "cache"))
    run = tune.RunConfig(
        name="exp",
        storage_path=tmp_path / "share",
        verbose=0,
        engine="inline",
        failure_config=tune.FailureConfig(max_failures=1),
        checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
    )
    grid = tune.Tuner(train, param_space={"fails_at": tune.grid_search([1, 9])}, run_config=run).fit()
    assert grid.errors == []
    assert [result.metrics["i"] for result in grid] == [3, 3]
    storage = NetworkStorage(tmp_path / "share" / "exp")
    assert storage.exists(SLOTS)
    assert not list((tmp_path / "share" / "exp" / "journal").glob("*.log"))
    assert check_history(storage) == []
    for result in grid:
        assert [name for name in os.listdir(result.path) if "checkpoint" in name] == [os.path.basename(result.checkpoint.path)]
        assert {"result.json", "progress.csv", "params.json"} <= set(os.listdir(result.path))
    again = tune.Tuner.restore(str(tmp_path / "share" / "exp"), train).fit()
    assert [result.metrics["i"] for result in again] == [3, 3]


@pytest.mark.parametrize("kind", [LocalStorage, NetworkStorage])
def test_what_another_sweeps_meanwhile_is_staged_anew(kind: type[PosixStorage], tmp_path: Path, monkeypatch) -> None:
    """A new driver sweeps for itself and for all that were before it; one of those may be alive, and its own heart beats."""
    storage = kind(tmp_path)
    monkeypatch.delattr(os, "O_TMPFILE")
    for name in ("replace", "link"):
        real, swept = getattr(os, name), []

        def sweeping(*args: Any, real: Any = real, swept: list[int] = swept, **options: Any) -> None:
            if not swept:
                swept.append(storage.sweep("d"))
            real(*args, **options)

        monkeypatch.setattr(os, name, sweeping)
    storage.put("d/a", b"mine")
    assert storage.put_if_absent("d/b", b"mine")
    assert (storage.read("d/a"), storage.read("d/b")) == (b"mine", b"mine")
    assert sorted(os.listdir(tmp_path / "d")) == ["a", "b"]


class EndsOnce(tune.Callback):
    def on_trial_result(self, iteration: int, trials: list, trial: tune.Trial, result: dict, **info: object) -> None:
        if not os.path.exists(os.path.join(os.path.dirname(trial.local_path), "ended")):
            Path(os.path.dirname(trial.local_path), "ended").touch()
            raise RuntimeError("the driver ends here")


def test_what_a_killed_driver_had_staged_goes_with_the_next(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("holdfast.storage.opening.is_local", lambda _: False)
    monkeypatch.setenv("HOLDFAST_CACHE_DIR", str(tmp_path / "cache"))
    run = tune.RunConfig(name="exp", storage_path=tmp_path, verbose=0, engine="inline", callbacks=[EndsOnce()])
    with pytest.raises(RuntimeError, match="ends here"):
        tune.Tuner(train, param_space={"fails_at": 9}, run_config=run).fit()
    staged = [tmp_path / "exp" / folder / ".tmp-0123456789abcdef" for folder in ("journal", SLOTS, "definitions")]
    for path in staged:
        path.write_bytes(b"half")
    assert len(check_history(NetworkStorage(tmp_path / "exp"))) >= len(staged)
    assert tune.Tuner.restore(tmp_path / "exp", train).fit().errors == []
    assert [path for path in staged if path.exists()] == []
    assert check_history(NetworkStorage(tmp_path / "exp")) == []
