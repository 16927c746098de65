"""File systems that users hand over lead to places, or are refused before anything begins."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import adlfs
import fsspec
import gcsfs
import pytest
import s3fs
from fsspec.implementations.dirfs import DirFileSystem
from pyarrow import fs

import holdfast as tune
from holdfast.errors import ConfigError
from holdfast.storage import uri
from holdfast.storage.filesystems import place_on
from holdfast.storage.uri import _config, keys_for_workers, open_place, parse

LOCAL = fs.LocalFileSystem()


@pytest.fixture(autouse=True)
def no_keys_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uri, "_keys", {})


def s3(**options: object) -> fs.S3FileSystem:
    return fs.S3FileSystem(**{"endpoint_override": "localhost:9000", "scheme": "http", "region": "eu-west-1", **options})


@pytest.mark.parametrize(
    "filesystem",
    [
        LOCAL,
        fs.SubTreeFileSystem("/", LOCAL),
        fsspec.filesystem("file"),
        fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem("file"))),
        fs.SubTreeFileSystem("/", fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem("file")))),
    ],
    ids=["local", "subtree", "fsspec", "wrapped", "both"],
)
def test_a_local_one_is_a_path(filesystem: object, tmp_path: Path) -> None:
    assert place_on(f"{tmp_path}/x", filesystem) == f"{tmp_path}/x"
    assert tune.RunConfig(storage_path=tmp_path, storage_filesystem=filesystem).storage_path == str(tmp_path)
    assert tune.Checkpoint(tmp_path, filesystem) == tune.Checkpoint(tmp_path)


def test_a_path_below_a_part_of_one_stays_below_it(tmp_path: Path) -> None:
    part = fs.SubTreeFileSystem(str(tmp_path), LOCAL)
    assert place_on("x/y", part) == place_on("/x/y", part) == f"{tmp_path}/x/y"
    assert place_on("x", fs.SubTreeFileSystem("deep", part)) == f"{tmp_path}/deep/x"
    assert place_on("x", DirFileSystem(str(tmp_path), fsspec.filesystem("file"))) == f"{tmp_path}/x"


def test_one_of_s3_is_its_uri_and_its_keys_are_in_no_text() -> None:
    place = place_on("bucket/a b/c", s3(access_key="me", secret_key="hidden"))
    assert parse(place).prefix == "a b/c"
    with pytest.raises(ConfigError, match="choose a path without"):
        place_on("bucket/a%20b", s3())
    assert parse(place).options == {"endpoint_override": "localhost:9000", "scheme": "http", "region": "eu-west-1"}
    config = tune.RunConfig(storage_path="bucket/x", storage_filesystem=s3(access_key="me", secret_key="hidden"))
    assert b"hidden" not in pickle.dumps(config)
    assert "hidden" not in repr(config)
    assert "hidden" in keys_for_workers()["HOLDFAST_STORE_KEYS"]
    assert place_on("x", fs.SubTreeFileSystem("bucket", s3())) == place_on("bucket/x", s3())
    assert parse(place_on("bucket/x", s3(anonymous=True))).options["anonymous"] == "true"


KEY = "aGlkZGVu"


@pytest.mark.parametrize(
    ("filesystem", "shown", "options", "keys"),
    [
        (
            s3fs.S3FileSystem(
                key="me", secret="hidden", token="t", endpoint_url="http://localhost:9000", use_listings_cache=False
            ),
            "s3://bucket/x",
            {"endpoint_override": "localhost:9000", "scheme": "http"},
            {"access_key_id": "me", "secret_access_key": "hidden", "session_token": "t"},
        ),
        (
            s3fs.S3FileSystem(
                client_kwargs={"region_name": "eu-west-1", "aws_access_key_id": "me", "aws_secret_access_key": "hidden"}
            ),
            "s3://bucket/x",
            {"region": "eu-west-1"},
            {"access_key_id": "me", "secret_access_key": "hidden"},
        ),
        (s3fs.S3FileSystem(anon=True), "s3://bucket/x", {"anonymous": "true"}, {}),
        (gcsfs.GCSFileSystem(token="anon", project="p"), "gs://bucket/x", {"anonymous": "true"}, {}),
        (
            gcsfs.GCSFileSystem(token="anon", endpoint_url="http://localhost:1/"),
            "gs://bucket/x",
            {"anonymous": "true", "endpoint_override": "localhost:1", "scheme": "http"},
            {},
        ),
        (
            adlfs.AzureBlobFileSystem(account_name="account", account_key=KEY),
            "az://bucket/x",
            {"account_name": "account"},
            {"account_key": KEY, "credential_type": "access_key"},
        ),
        (
            adlfs.AzureBlobFileSystem(connection_string=f"AccountName=account;AccountKey={KEY};EndpointSuffix=core.windows.net"),
            "az://bucket/x",
            {"account_name": "account"},
            {"account_key": KEY, "credential_type": "access_key"},
        ),
        (
            adlfs.AzureBlobFileSystem(account_name="account", sas_token="?sv=hidden"),
            "az://bucket/x",
            {"account_name": "account"},
            {"sas_key": "?sv=hidden", "credential_type": "sas_token"},
        ),
        (
            fs.GcsFileSystem(anonymous=True, scheme="http", endpoint_override="localhost:1"),
            "gs://bucket/x",
            {"anonymous": "true", "scheme": "http", "endpoint_override": "localhost:1"},
            {},
        ),
        (
            fs.AzureFileSystem("account", account_key=KEY),
            "az://bucket/x",
            {"account_name": "account"},
            {"account_key": KEY, "credential_type": "access_key"},
        ),
    ],
    ids=["s3fs", "client", "anon", "gcsfs", "gcsfs-endpoint", "adlfs", "adlfs-string", "adlfs-sas", "arrow-gcs", "arrow-azure"],
)
def test_those_of_clouds_are_their_uris_and_their_keys_are_in_no_text(
    filesystem: Any, shown: str, options: dict[str, str], keys: dict[str, str]
) -> None:
    one = place_on("bucket/x", filesystem)
    assert (parse(one).shown, parse(one).options) == (shown, options)
    assert [kept for kept in uri._keys.values() if kept] == ([keys] if keys else [])
    assert open_place(parse(one)).root == shown  # our client takes them
    wrapped = filesystem if isinstance(filesystem, fs.FileSystem) else fs.PyFileSystem(fs.FSSpecHandler(filesystem))
    assert place_on("x", fs.SubTreeFileSystem("bucket", wrapped)) == one


def test_a_key_is_for_its_own_account_alone() -> None:
    place_on("bucket/x", adlfs.AzureBlobFileSystem(account_name="one", account_key=KEY))
    assert _config(parse("az://bucket/x?account_name=one"))[0]["account_key"] == KEY
    assert "account_key" not in _config(parse("az://bucket/x?account_name=two"))[0]
    assert "account_key" not in _config(parse("s3://bucket/x"))[0]


def test_a_service_account_is_a_key(tmp_path: Path) -> None:
    """As gcsfs is given one: it wants a key that reads, so what it keeps is handed over without it."""

    class GCSFileSystem:
        __module__ = "gcsfs.core"
        protocol, storage_args = ("gs", "gcs"), ()
        storage_options = {"token": {"type": "service_account", "private_key": "hidden"}, "project": "p"}  # noqa: RUF012

    assert parse(place_on("bucket/x", GCSFileSystem())).options == {}
    assert "hidden" in uri._keys["gs   bucket"]["service_account_key"]
    (tmp_path / "account.json").write_text("{}")
    GCSFileSystem.storage_options = {"token": str(tmp_path / "account.json")}
    place_on("bucket/x", GCSFileSystem())
    assert uri._keys["gs   bucket"] == {"application_credentials": str(tmp_path / "account.json")}
    GCSFileSystem.storage_options = {"token": "ya29.hidden"}
    with pytest.raises(ConfigError, match="token") as caught:
        place_on("bucket/x", GCSFileSystem())
    assert "hidden" not in str(caught.value)


def test_without_keys_of_its_own_none_are_remembered() -> None:
    place_on("bucket/x", s3())
    assert keys_for_workers() == {}


@pytest.mark.parametrize(
    ("filesystem", "says"),
    [
        (fsspec.filesystem("memory"), "MemoryFileSystem: two drivers cannot be kept apart"),
        (fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem("memory"))), "MemoryFileSystem"),
        (s3(role_arn="arn:aws:iam::1:role/x"), "role_arn"),
        (s3(proxy_options="http://user:hidden@localhost:1"), "proxy_options"),
        (s3fs.S3FileSystem(profile="hidden"), "s3fs with profile"),
        (s3fs.S3FileSystem(s3_additional_kwargs={"ServerSideEncryption": "hidden"}), "s3fs with s3_additional_kwargs"),
        (s3fs.S3FileSystem(client_kwargs={"verify": "/hidden.pem"}), "s3fs with verify"),
        (s3fs.S3FileSystem(True), "s3fs: give its arguments by name"),
        (gcsfs.GCSFileSystem(token="anon", requester_pays="hidden"), "gcsfs with requester_pays"),
        (adlfs.AzureBlobFileSystem("account", credential="hidden"), "adlfs: give its arguments by name"),
        (adlfs.AzureBlobFileSystem(account_name="account", credential="hidden"), "adlfs with credential"),
    ],
    ids=["fsspec", "wrapped", "role", "proxy", "profile", "encrypting", "ca", "by-place", "pays", "az-by-place", "credential"],
)
def test_what_keeps_nobody_apart_or_means_more_than_we_know_is_refused(filesystem: object, says: str) -> None:
    for use in (place_on, lambda path, it: tune.RunConfig(storage_path=path, storage_filesystem=it), tune.Tuner.restore):
        with pytest.raises((ConfigError, TypeError)) as caught:
            use("bucket/x", filesystem) if use is not tune.Tuner.restore else use("bucket/x", len, storage_filesystem=filesystem)
        assert says in str(caught.value)
        assert "hidden" not in str(caught.value)


def test_a_path_with_a_scheme_has_no_file_system() -> None:
    with pytest.raises(ConfigError, match="has no scheme"):
        place_on("s3://bucket/x", s3())
    with pytest.raises(ConfigError, match="give storage_path too"):
        tune.RunConfig(storage_filesystem=LOCAL)


def train(config: dict) -> None:
    tune.report({"x": 1})


def test_an_experiment_on_a_part_of_a_local_one(tmp_path: Path) -> None:
    part = fs.SubTreeFileSystem(str(tmp_path), LOCAL)
    run = tune.RunConfig(name="exp", storage_path="results", storage_filesystem=part, verbose=0, engine="inline")
    grid = tune.Tuner(train, run_config=run).fit()
    assert grid.experiment_path == f"{tmp_path}/results/exp"
    assert tune.Tuner.can_restore("results/exp", storage_filesystem=part)
    assert not tune.Tuner.can_restore("results", storage_filesystem=part)
    again = tune.Tuner.restore("results/exp", train, storage_filesystem=part).get_results()
    assert again[0].metrics["x"] == 1
    assert tune.Result.from_path(f"results/exp/{os.path.basename(grid[0].path)}", part).metrics["x"] == 1
    assert len(tune.ExperimentAnalysis("results/exp", storage_filesystem=part).trials) == 1
