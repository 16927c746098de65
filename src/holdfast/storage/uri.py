"""Storage URIs: from what a user writes to a client of a bucket.

    s3://bucket/path?endpoint_override=localhost:9000&scheme=http&region=eu-central-1
    gs://bucket/path            gs://anonymous@bucket/path
    az://container/path         abfs://container@account.dfs.core.windows.net/path

Knows the schemes, their parameters (those of Arrow's URIs, which Ray Tune's users write) and where each cloud's credentials are
looked for. It refuses secrets in a URI: a URI is on record, in logs and in errors.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import msgspec

from holdfast import settings
from holdfast.errors import ConfigError
from holdfast.storage.object_store import ObjectStorage

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = ["Place", "arrow_filesystem", "bare", "is_uri", "keys_for_workers", "open_place", "parse", "place_key", "remember_keys"]

_CLOUDS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az", "azure": "az", "abfs": "az", "abfss": "az", "adl": "az"}
_COMMON = ("endpoint_override", "scheme", "anonymous")
_PARAMETERS = {"s3": (*_COMMON, "region"), "gs": _COMMON, "az": (*_COMMON, "account_name")}
_SECRETS = ("access_key", "secret_key", "session_token", "account_key", "sas_token", "sas_key", "token", "password", "credential")
# A part of a large file is tried again by the client, in silence, so not for long: what goes on failing is to be warned of.
_FOR_PARTS = {
    "max_retries": 30,
    "retry_timeout": timedelta(seconds=15),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2.0},
}
_EXTRA = "{scheme}:// needs the package obstore: pip install 'holdfast[cloud]'."


_keys: dict[str, dict[str, str]] = {}
"""Keys that a user's own file system was given, by cloud, endpoint, account and bucket; of this process, never written down."""


class Place(msgspec.Struct, frozen=True):
    """A place in a bucket, taken from a URI.

    Attributes:
        cloud: "s3", "gs" or "az".
        scheme: As it was written.
        bucket: The bucket, or Azure's container.
        prefix: What the names of objects begin with, without "/" at its ends.
        options: The parameters, by name; no secrets.
    """

    cloud: str
    scheme: str
    bucket: str
    prefix: str
    options: dict[str, str]

    @property
    def shown(self) -> str:
        """The place without its parameters, for people: scheme, bucket and prefix."""
        return f"{self.scheme}://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")

    @property
    def uri(self) -> str:
        """All of it: `parse(place.uri) == place`."""
        return self.shown + (f"?{urlencode(sorted(self.options.items()))}" if self.options else "")

    def below(self, name: str) -> Place:
        """The place of that name in this one."""
        return msgspec.structs.replace(self, prefix=f"{self.prefix}/{name}" if self.prefix else name)


def is_uri(text: str) -> bool:
    """Whether this names a place in a cloud, and no local path."""
    return urlsplit(text).scheme in _CLOUDS and "://" in text


def bare(uri: str) -> str:
    """A place without scheme and parameters, as file systems take it: bucket and path; a local path as it is."""
    if not is_uri(uri):
        return uri
    place = parse(uri)
    return f"{place.bucket}/{place.prefix}" if place.prefix else place.bucket


def place_key(uri: str) -> str:
    """Eight letters by which this machine's files know the place of an experiment, however it is spelled.

    It is made of cloud, bucket (on Azure with its account) and path, or of a local path behind its links. Endpoint, region and
    the scheme's alias are no part of it: the same place is often reached by several. So two servers with a bucket and a path of
    the same names are one place here.
    """
    import hashlib

    where = os.path.realpath(uri)
    if is_uri(uri):
        place = parse(uri)
        account = place.options.get("account_name") or settings.cloud("AZURE_STORAGE_ACCOUNT_NAME") if place.cloud == "az" else ""
        where = f"{place.cloud}://{account}/{place.bucket}/{place.prefix}"
    return hashlib.sha256(where.encode("utf-8", "surrogateescape")).hexdigest()[:8]


def parse(text: str) -> Place:
    """The place that a URI names.

    Raises:
        ConfigError: No bucket, an unknown scheme or parameter, or a secret. The sentence repeats no value.
    """
    parts = urlsplit(text)
    cloud = _CLOUDS.get(parts.scheme)
    if cloud is None:
        raise ConfigError(f"{parts.scheme}:// is no place for an experiment; there are {', '.join(sorted(_CLOUDS))}, or a path.")
    bucket, user = parts.netloc, ""
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if "@" in bucket:
        user, _, bucket = bucket.rpartition("@")
        if cloud == "az" and ":" not in user:  # abfs://container@account.dfs.core.windows.net
            options.setdefault("account_name", bucket.partition(".")[0])
            bucket, user = user, ""
        elif user == "anonymous":
            options["anonymous"], user = "true", ""
    _check(cloud, parts.scheme, bucket, user, options)
    prefix = "/".join(part for part in unquote(parts.path).split("/") if part)
    if ".." in prefix.split("/"):
        raise ConfigError(f"{parts.scheme}://{bucket}: a path without '..', please.")
    return Place(cloud, parts.scheme, bucket, prefix, options)


def _check(cloud: str, scheme: str, bucket: str, user: str, options: dict[str, str]) -> None:
    secret = [name for name in options if name.lower() in _SECRETS]
    if user or secret:
        what = f"the parameter {secret[0]}" if secret else "what stands before '@'"
        raise ConfigError(
            f"{scheme}://{bucket}: {what} is a secret, and a URI ends up in records and logs. Leave it out, and give credentials "
            "by the cloud's environment variables (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, GOOGLE_APPLICATION_CREDENTIALS, "
            "AZURE_STORAGE_ACCOUNT_KEY, ...) or, for S3, by a profile in ~/.aws/credentials."
        )
    if not bucket:
        raise ConfigError(f"{scheme}://: name a bucket, as in {scheme}://bucket/path.")
    unknown = sorted(set(options) - set(_PARAMETERS[cloud]))
    if unknown:
        raise ConfigError(f"{scheme}://{bucket}: no parameter {unknown[0]!r}; there are {', '.join(_PARAMETERS[cloud])}.")
    if "@" in options.get("endpoint_override", ""):
        raise ConfigError(f"{scheme}://{bucket}: endpoint_override is host and port; credentials have no place in it.")
    if options.get("scheme", "https") not in ("http", "https"):
        raise ConfigError(f"{scheme}://{bucket}: scheme is http or https.")
    if options.get("anonymous", "true").lower() not in ("true", "false"):
        raise ConfigError(f"{scheme}://{bucket}: anonymous is true or false.")


def open_place(place: Place, **options: Any) -> ObjectStorage:
    """The storage at a place; makes no request. `options` as for `ObjectStorage`.

    Raises:
        ConfigError: obstore is not installed, or does not take what the place or the environment says.
    """
    return ObjectStorage(_connector(place), place.prefix, place.shown, uri=place.uri, **options)


def remember_keys(place: Place, keys: dict[str, str]) -> None:
    """Has this process open that bucket with these keys, by obstore's names for them, before any from environment or profile."""
    _keys[_keyed(place)] = keys


def keys_for_workers() -> dict[str, str]:
    """The environment by which processes of trials know the same keys; empty where there are none."""
    import json

    known = {**_keys_of_environment(), **_keys}
    return {"HOLDFAST_STORE_KEYS": json.dumps(known)} if known else {}


def _keys_of_environment() -> dict[str, dict[str, str]]:
    import json

    known: dict[str, dict[str, str]] = json.loads(settings.store_keys() or "{}")
    return known


def _known_keys(place: Place) -> dict[str, str]:
    keyed = _keyed(place)
    return _keys.get(keyed) or _keys_of_environment().get(keyed) or {}


def _keyed(place: Place) -> str:
    return " ".join(
        [place.cloud, place.options.get("endpoint_override", ""), place.options.get("account_name", ""), place.bucket]
    )


def arrow_filesystem(place: Place) -> Any:
    """The `pyarrow.fs.FileSystem` that takes a place's bucket and path, with the credentials that our own client has.

    Raises:
        ConfigError: There is none that could have them: on Google's storage, and on Azure without an account.
    """
    from pyarrow import fs

    config, endpoint = _config(place)
    scheme, _, host = endpoint.partition("://")
    if place.cloud == "s3":
        given: dict[str, Any] = {"region": config.get("region") or settings.cloud("AWS_REGION") or "us-east-1"}
        given.update({"scheme": scheme, "endpoint_override": host} if endpoint else {})
        given.update({"anonymous": True} if config.get("skip_signature") else {})
        names = {"access_key_id": "access_key", "secret_access_key": "secret_key", "session_token": "session_token"}
        given.update({names[name]: value for name, value in _known_keys(place).items() if not config.get("skip_signature")})
        return fs.S3FileSystem(**given)
    if place.cloud == "az" and config.get("account_name") and not config.get("skip_signature"):
        return fs.AzureFileSystem(**_arrow_azure(config, scheme, host))
    raise ConfigError(f"{place.shown}: no pyarrow filesystem is given for it. Use as_directory() or to_directory().")


def _arrow_azure(config: dict[str, Any], scheme: str, host: str) -> dict[str, Any]:
    given = {"account_name": config["account_name"]}
    authority = host.removesuffix(f"/{config['account_name']}")
    if authority:
        given.update({f"{service}_storage_authority": authority for service in ("blob", "dfs")})
        given.update({f"{service}_storage_scheme": scheme for service in ("blob", "dfs")})
    key = config.get("account_key") or settings.cloud("AZURE_STORAGE_ACCOUNT_KEY")
    sas = config.get("sas_key") or settings.cloud("AZURE_STORAGE_SAS_TOKEN")
    if key:
        given["account_key"] = key
    elif sas:
        given["sas_token"] = sas
    else:  # else pyarrow looks at the environment itself
        given.update({name: config[name] for name in ("client_id", "client_secret", "tenant_id") if name in config})
    return given


def _connector(place: Place) -> Callable[[bool], ObjectStore]:
    """Makes clients of a bucket; see `ObjectStorage`."""
    try:
        from obstore import store
    except ImportError as error:
        raise ConfigError(_EXTRA.format(scheme=place.scheme)) from error
    kind: Any = {"s3": store.S3Store, "gs": store.GCSStore, "az": store.AzureStore}[place.cloud]

    def connect(retries: bool) -> ObjectStore:
        config, endpoint = _config(place)
        client = {"connect_timeout": "5s", "allow_http": endpoint.startswith("http://")}
        client["timeout"] = "180s" if retries else "60s"
        retry = _FOR_PARTS if retries else {"max_retries": 0}
        try:
            opened: ObjectStore = kind(place.bucket, config=config, client_options=client, retry_config=retry)
        except Exception as error:  # noqa: BLE001 - whatever it is, its own text may repeat a key that cannot be read
            raise ConfigError(
                f"{place.shown} cannot be opened ({type(error).__name__}): check the parameters of the URI and the cloud's "
                "environment variables."
            ) from None
        return opened

    return connect


def _config(place: Place) -> tuple[dict[str, Any], str]:
    """What obstore is told, beside what it finds in the environment itself; and the endpoint, empty for the cloud's own."""
    given = place.options
    endpoint = given.get("endpoint_override", "")
    if endpoint and "://" not in endpoint:
        endpoint = f"{given.get('scheme', 'https')}://{endpoint}"
    anonymous = given.get("anonymous", "").lower() == "true"
    config: dict[str, Any] = {"skip_signature": True} if anonymous else dict(_known_keys(place))
    if place.cloud == "s3":
        if not config and not settings.cloud("AWS_ACCESS_KEY_ID"):
            config.update(_profile())
        config.update({"region": given["region"]} if "region" in given else {})
        endpoint = endpoint or settings.cloud("AWS_ENDPOINT_URL_S3") or settings.cloud("AWS_ENDPOINT_URL")
        if endpoint:
            config["aws_endpoint_url_s3"] = endpoint
    elif place.cloud == "gs":
        if endpoint:
            config["base_url"] = endpoint
    else:
        account = given.get("account_name") or settings.cloud("AZURE_STORAGE_ACCOUNT_NAME")
        config.update({"account_name": account} if account else {})
        if endpoint:
            config["endpoint"] = endpoint
        endpoint = endpoint or settings.cloud("AZURE_STORAGE_ENDPOINT")
    return config, endpoint


def _profile() -> dict[str, str]:
    """Keys and region of the profile that AWS_PROFILE names (or "default"), where there is one with keys of its own."""
    name = settings.cloud("AWS_PROFILE") or "default"
    found: dict[str, str] = {}
    for variable, usual, section in (
        ("AWS_CONFIG_FILE", "~/.aws/config", name if name == "default" else f"profile {name}"),
        ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials", name),
    ):
        file = configparser.RawConfigParser()
        try:
            file.read(os.path.expanduser(settings.cloud(variable) or usual), encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError) as error:
            raise ConfigError(f"{settings.cloud(variable) or usual} does not read ({type(error).__name__}).") from None
        if file.has_section(section):
            found.update(file[section])
    wanted = {
        "aws_access_key_id": "access_key_id",
        "aws_secret_access_key": "secret_access_key",
        "aws_session_token": "session_token",
        "region": "region",
    }
    return {wanted[key]: value for key, value in found.items() if key in wanted}
