"""One string leads to a storage, and back."""

from __future__ import annotations

import pytest

from holdfast.errors import ConfigError
from holdfast.storage.local import LocalStorage
from holdfast.storage.object_store import ObjectStorage
from holdfast.storage.opening import inside, open_storage, whereabouts

MINIO = "s3://bucket/a/b?endpoint_override=localhost%3A9000&scheme=http"


@pytest.mark.parametrize("given", ["x", "./x/", "~/x", "file:///x"])
def test_a_local_place_is_its_absolute_path(given, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    storage = open_storage(given)
    assert isinstance(storage, LocalStorage)
    assert storage.uri == storage.root == ("/x" if given.startswith("file") else str(tmp_path / "x"))


def test_a_place_in_a_cloud_keeps_its_parameters_and_shows_none(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    storage = open_storage("s3://bucket/a//b/?scheme=http&endpoint_override=localhost:9000")
    assert isinstance(storage, ObjectStorage)
    assert storage.uri == MINIO
    assert storage.root == "s3://bucket/a/b"
    assert open_storage(storage.uri).uri == storage.uri


def test_what_lies_inside_keeps_the_parameters_too():
    assert inside(MINIO, "c/d") == MINIO.replace("a/b", "a/b/c/d")
    assert inside("/x", "c/d") == "/x/c/d"
    assert inside("s3://bucket", "c") == "s3://bucket/c"
    for place in ("/x", MINIO):
        for path in ("../y", "/y", "a/../../y"):
            with pytest.raises(ConfigError, match="leaves"):
                inside(place, path)


def test_a_place_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="no place"):
        whereabouts("ftp://host/x")
