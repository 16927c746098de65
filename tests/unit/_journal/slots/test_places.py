"""Which spool on a machine belongs to which place: originals, copies, experiments that were moved, places spelled otherwise."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path

import pytest

from holdfast._journal import Journal
from holdfast.errors import Fenced
from holdfast.storage.local import LocalStorage
from holdfast.storage.network import NetworkStorage
from holdfast.storage.uri import place_key
from journal_tools import add, born, take, texts


@pytest.fixture
def cache(tmp_path: Path) -> LocalStorage:
    return LocalStorage(str(tmp_path / "cache"))


def at(path: Path, cache: LocalStorage) -> NetworkStorage:
    storage = NetworkStorage(str(path))
    storage.disk = cache
    return storage


def killed(path: Path, cache: LocalStorage) -> Journal:
    """A journal whose driver was killed when one record was on the store and two in the spool alone; the journal as it was."""
    journal = take(born(at(path, cache)))
    add(journal, "on the store")
    journal.sync()
    add(journal, "acknowledged", "also")
    return journal


def test_a_copy_leaves_the_spool_to_the_original_and_says_what_it_lacks(tmp_path: Path, cache: LocalStorage) -> None:
    killed(tmp_path / "exp", cache)
    shutil.copytree(tmp_path / "exp", tmp_path / "copy")
    copy = at(tmp_path / "copy", cache)
    with pytest.warns(UserWarning, match=rf"is a copy of {tmp_path}/exp, made before the last 2 records .*"):
        journal = take(copy)
    add(journal, "only in the copy")
    journal.close()
    assert texts(copy) == ["on the store", "only in the copy"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        take(copy).close()  # told once
        take(at(tmp_path / "exp", cache)).close()
    assert texts(at(tmp_path / "exp", cache)) == ["on the store", "acknowledged", "also"]


def test_a_copy_does_not_end_the_driver_of_the_original(tmp_path: Path, cache: LocalStorage) -> None:
    living = killed(tmp_path / "exp", cache)
    shutil.copytree(tmp_path / "exp", tmp_path / "copy")
    with pytest.warns(UserWarning, match="is a copy of"):
        journal = take(at(tmp_path / "copy", cache))
    add(living, "later")
    living.close()
    journal.close()
    assert texts(at(tmp_path / "exp", cache)) == ["on the store", "acknowledged", "also", "later"]


@pytest.mark.parametrize("reused", [False, True])
def test_what_was_moved_takes_its_spool_along(tmp_path: Path, cache: LocalStorage, reused: bool) -> None:
    old = killed(tmp_path / "exp", cache)
    os.rename(tmp_path / "exp", tmp_path / "moved")
    if reused:  # another experiment stands there by now
        from holdfast._journal import create
        from journal_tools import birth

        assert create(at(tmp_path / "exp", cache), birth("f" * 32), 1.0)
    moved = at(tmp_path / "moved", cache)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        journal = take(moved)
    add(journal, "new")
    journal.close()
    assert texts(moved) == ["on the store", "acknowledged", "also", "new"]
    with pytest.raises(Fenced):
        add(old, "of a driver that was moved away from")


def test_a_place_that_cannot_be_looked_at_keeps_its_spool(tmp_path: Path, cache: LocalStorage) -> None:
    """As where the network file system of the original is not mounted just now."""
    killed(tmp_path / "mount" / "exp", cache)
    shutil.copytree(tmp_path / "mount" / "exp", tmp_path / "copy")
    os.rename(tmp_path / "mount", tmp_path / "elsewhere")
    with pytest.warns(UserWarning, match="made before the last 2 records"):
        take(at(tmp_path / "copy", cache)).close()
    assert texts(at(tmp_path / "copy", cache)) == ["on the store"]
    os.rename(tmp_path / "elsewhere", tmp_path / "mount")
    take(at(tmp_path / "mount" / "exp", cache)).close()
    assert texts(at(tmp_path / "mount" / "exp", cache)) == ["on the store", "acknowledged", "also"]


def test_a_place_under_another_name_finds_its_spool(tmp_path: Path, cache: LocalStorage) -> None:
    killed(tmp_path / "exp", cache)
    os.symlink(tmp_path, tmp_path / "link")
    take(at(tmp_path / "link" / "exp", cache)).close()
    assert texts(at(tmp_path / "exp", cache)) == ["on the store", "acknowledged", "also"]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("s3://b/x/exp", "s3a://b/x//exp/", True),
        ("s3://b/x/exp", "s3://b/x/exp?endpoint_override=localhost%3A9000&scheme=http&region=eu-1", True),
        ("s3://b/x/exp", "s3://anonymous@b/x/exp", True),
        ("gs://b/x/exp", "gcs://b/x/exp", True),
        ("az://c/x?account_name=me", "abfss://c@me.dfs.core.windows.net/x", True),
        ("az://c/x?account_name=me", "az://c/x?account_name=you", False),
        ("s3://b/x/exp", "gs://b/x/exp", False),
        ("s3://b/x/exp", "s3://b/x/exp2", False),
        ("s3://b/x/exp", "s3://b2/x/exp", False),
        ("/x/../tmp/exp", "/tmp/exp", True),
        ("/tmp/exp", "/tmp/exp2", False),
    ],
)
def test_how_a_place_is_known(one: str, other: str, same: bool) -> None:
    assert (place_key(one) == place_key(other)) == same


def test_the_account_of_the_environment_counts_as_one_in_the_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "me")
    assert place_key("az://c/x") == place_key("az://c/x?account_name=me") != place_key("az://c/x?account_name=you")
