from __future__ import annotations

import pytest

from holdfast.errors import ConfigError
from holdfast.storage.uri import Place, _config, arrow_filesystem, is_uri, open_place, parse


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("s3://bucket", Place("s3", "s3", "bucket", "", {})),
        ("s3://bucket/a/b/", Place("s3", "s3", "bucket", "a/b", {})),
        ("s3://bucket//a//b c", Place("s3", "s3", "bucket", "a/b c", {})),
        ("s3://bucket/a%20b=c", Place("s3", "s3", "bucket", "a b=c", {})),
        (
            "s3://bucket/x?endpoint_override=localhost%3A9000&scheme=http",
            Place("s3", "s3", "bucket", "x", {"endpoint_override": "localhost:9000", "scheme": "http"}),
        ),
        ("gs://anonymous@bucket/x", Place("gs", "gs", "bucket", "x", {"anonymous": "true"})),
        ("az://container/x", Place("az", "az", "container", "x", {})),
        (
            "abfs://container@account.dfs.core.windows.net/x/y",
            Place("az", "abfs", "container", "x/y", {"account_name": "account"}),
        ),
    ],
)
def test_what_a_uri_names(text, place):
    assert is_uri(text)
    assert parse(text) == place


def test_a_place_comes_back_from_its_uri():
    place = parse("s3://bucket/a?region=eu-central-1&endpoint_override=localhost:9000&scheme=http")
    assert parse(place.uri) == place
    assert place.below("b").shown == "s3://bucket/a/b"
    assert parse("s3://bucket").below("b").shown == "s3://bucket/b"


@pytest.mark.parametrize("text", ["/tmp/x", "./x", "~/x", "file:///tmp/x", "C:/x", "a=b/c", "http://host/x"])
def test_what_is_no_place_in_a_cloud(text):
    assert not is_uri(text)


@pytest.mark.parametrize(
    "text",
    [
        "s3://AKIAHIDDEN:hidden@bucket/x",
        "s3://bucket/x?access_key=AKIAHIDDEN&secret_key=hidden",
        "s3://bucket/x?endpoint_override=AKIAHIDDEN:hidden@host",
        "az://container/x?account_key=hidden",
        "az://container/x?sas_token=hidden",
        "abfs://container:hidden@account.dfs.core.windows.net/x",
    ],
)
def test_a_secret_is_refused_and_not_repeated(text):
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert "hidden" not in str(caught.value).lower()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("s3:///x", "name a bucket"),
        ("s3://bucket?endpoint=x", "no parameter 'endpoint'; there are endpoint_override"),
        ("gs://bucket?region=x", "no parameter 'region'"),
        ("s3://bucket?scheme=ftp", "http or https"),
        ("s3://bucket?anonymous=perhaps", "true or false"),
        ("s3://bucket/a/../b", "without '..'"),
        ("hdfs://host/x", "hdfs:// is no place for an experiment"),
    ],
)
def test_what_is_refused(text, words):
    with pytest.raises(ConfigError, match=words):
        parse(text)


def test_the_endpoint_of_the_uri_goes_before_that_of_the_environment(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://general:1")
    assert _config(parse("s3://b")) == ({"aws_endpoint_url_s3": "http://general:1"}, "http://general:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://special:1")
    assert _config(parse("s3://b"))[1] == "http://special:1"
    assert _config(parse("s3://b?endpoint_override=given:1"))[1] == "https://given:1"
    assert _config(parse("s3://b?endpoint_override=http://given:1"))[1] == "http://given:1"


def test_a_profile_gives_keys_and_region(tmp_path, monkeypatch):
    (tmp_path / "credentials").write_text("[work]\naws_access_key_id = AKIA\naws_secret_access_key = hidden\n[default]\n")
    (tmp_path / "config").write_text("[profile work]\nregion = eu-north-1\noutput = json\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.setenv("AWS_PROFILE", "work")
    given = {"access_key_id": "AKIA", "secret_access_key": "hidden", "region": "eu-north-1"}
    assert _config(parse("s3://b"))[0] == given
    assert _config(parse("s3://b?region=here"))[0] == {**given, "region": "here"}
    assert _config(parse("s3://b?anonymous=true"))[0] == {"skip_signature": True}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "from the environment")
    assert _config(parse("s3://b"))[0] == {}


def test_a_place_is_opened_without_a_request(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    storage = open_place(parse("s3://bucket/a?endpoint_override=127.0.0.1:1&scheme=http&region=r"))
    assert storage.root == "s3://bucket/a"


def test_what_the_environment_garbles_is_refused_without_its_value(monkeypatch):
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", '{"private_key": "hidden"')
    with pytest.raises(ConfigError, match="cannot be opened") as caught:
        open_place(parse("gs://bucket"))
    assert "hidden" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.slow
def test_pyarrows_filesystem_of_azure_has_the_account_its_key_and_its_endpoint(monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "aGlkZGVu")

    def given_at(uri):
        return arrow_filesystem(parse(uri)).__reduce__()[1][0]

    given = given_at("az://bucket/x?account_name=one")
    assert (given["account_name"], given["account_key"]) == ("one", "aGlkZGVu")
    assert given["blob_storage_authority"] == ".blob.core.windows.net"
    given = given_at("az://bucket/x?account_name=one&endpoint_override=localhost:1/one&scheme=http")
    assert (given["blob_storage_authority"], given["blob_storage_scheme"]) == ("localhost:1", "http")
    for none in ("gs://bucket/x", "az://bucket/x?account_name=one&anonymous=true"):
        with pytest.raises(ConfigError, match="Use as_directory"):
            arrow_filesystem(parse(none))
