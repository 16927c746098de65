"""Checkpoints as a user handles them."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from holdfast.checkpoint import MANIFEST, Checkpoint
from holdfast.errors import ConfigError


@pytest.fixture
def saved(tmp_path: Path) -> Checkpoint:
    folder = tmp_path / "saved"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file").write_text("content")
    (folder / "link").symlink_to("deep/file")
    (folder / MANIFEST).write_text("{}")
    return Checkpoint.from_directory(folder)


def test_the_path_is_absolute_text(saved: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(os.path.dirname(saved.path))
    for given in ("saved", Path("saved"), "./saved/", f"file://{saved.path}"):
        assert Checkpoint(given).path == saved.path
    assert isinstance(saved.path, str)


def test_equality_hash_repr_and_pickling_go_by_the_path(saved: Checkpoint) -> None:
    again = pickle.loads(pickle.dumps(saved))
    assert again == saved
    assert hash(again) == hash(saved)
    assert again != Checkpoint("/elsewhere")
    assert saved != saved.path
    assert repr(saved) == f"Checkpoint(path={saved.path})"


def test_as_directory_gives_the_files_themselves(saved: Checkpoint) -> None:
    with saved.as_directory() as folder:
        assert folder == saved.path
    with pytest.raises(FileNotFoundError, match="no checkpoint"), Checkpoint("/nowhere").as_directory():
        pass


def test_to_directory_copies_the_users_files_only(saved: Checkpoint, tmp_path: Path) -> None:
    for target in (tmp_path / "copy", None):
        copy = Path(saved.to_directory(target))
        assert sorted(os.listdir(copy)) == ["deep", "link"]
        assert (copy / "link").is_symlink()
        assert (copy / "link").read_text() == "content"
        assert copy == target or target is None
        (copy / "deep" / "file").write_text("changed")
    assert (Path(saved.path) / "link").read_text() == "content"


def test_metadata_is_kept_beside_the_files(saved: Checkpoint) -> None:
    assert saved.get_metadata() == {}
    saved.set_metadata({"a": 1, "b": 2})
    saved.update_metadata({"b": 3})
    assert Checkpoint(saved.path).get_metadata() == {"a": 1, "b": 3}
    saved.set_metadata({})
    assert saved.get_metadata() == {}
    assert sorted(os.listdir(saved.path)) == [MANIFEST, ".metadata.json", "deep", "link"]


def test_metadata_that_is_no_json_changes_nothing(saved: Checkpoint) -> None:
    saved.set_metadata({"a": 1})
    before = sorted(os.listdir(saved.path))
    with pytest.raises(TypeError, match="JSON"):
        saved.set_metadata({"a": object()})
    assert saved.get_metadata() == {"a": 1}
    assert sorted(os.listdir(saved.path)) == before


def test_places_that_nobody_can_reach_are_refused() -> None:
    with pytest.raises(ConfigError, match="no place for an experiment"):
        Checkpoint("hdfs://host/x")
    with pytest.raises(ConfigError, match="the path has no scheme"):
        Checkpoint("s3://bucket/x", filesystem=object())
    with pytest.raises(ConfigError, match="local"):
        Checkpoint("/x", filesystem=object())


def test_the_filesystem_is_pyarrows_or_says_what_is_missing(saved: Checkpoint) -> None:
    try:
        import pyarrow.fs
    except ImportError:
        with pytest.raises(ConfigError, match="pip install pyarrow"):
            _ = saved.filesystem
    else:
        assert isinstance(saved.filesystem, pyarrow.fs.LocalFileSystem)
        assert Checkpoint(saved.path, filesystem=saved.filesystem) == saved
