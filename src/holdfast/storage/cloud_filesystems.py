"""File systems of clouds, pyarrow's and fsspec's: what each was given, as parameters of a URI and keys for our own client.

Knows the arguments of six classes, and what our client calls them. What it does not know it never passes over in silence, but for
what only tunes the object itself, such as caches. It makes no request, and imports none of those packages.
"""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from holdfast.errors import ConfigError

__all__ = ["Said", "said_by"]

_OPTIONS = frozenset(["endpoint_override", "scheme", "region", "anonymous", "account_name"])
_PASSED_OVER = frozenset(
    [
        *("use_listings_cache", "listings_expiry_time", "max_paths", "skip_instance_cache", "cache_timeout", "cache_regions"),
        *("default_block_size", "block_size", "blocksize", "default_fill_cache", "default_cache_type"),
        *("timeout", "requests_timeout", "socket_timeout", "connection_timeout", "read_timeout", "check_connection"),
        *("asynchronous", "loop", "max_concurrency", "fixed_upload_size", "consistency", "version_aware"),
        *("project", "access", "default_location", "secure_serialize"),
    ]
)
_S3FS = {
    "key": "access_key_id",
    "username": "access_key_id",
    "aws_access_key_id": "access_key_id",
    "secret": "secret_access_key",
    "password": "secret_access_key",
    "aws_secret_access_key": "secret_access_key",
    "token": "session_token",
    "aws_session_token": "session_token",
    "region_name": "region",
    "endpoint_url": "endpoint_override",
    "anon": "anonymous",
}
_GCSFS = {"endpoint_url": "endpoint_override"}
_ADLFS = {"sas_token": "sas_key", "anon": "anonymous"} | {
    name: name for name in ("account_name", "account_key", "client_id", "client_secret", "tenant_id", "endpoint_override")
}
_ARROW_S3 = {"access_key": "access_key_id", "secret_key": "secret_access_key", "session_token": "session_token"} | {
    name: name for name in ("region", "scheme", "endpoint_override", "anonymous")
}
_ARROW_AZURE = {name: name for name in ("account_name", "account_key", "client_id", "client_secret", "tenant_id")} | {
    "sas_token": "sas_key",
    "blob_storage_authority": "endpoint_override",
    "blob_storage_scheme": "scheme",
}
_ARROW_REFUSED = {  # of what these objects always say, that which our client has no setting for
    "s3": ("role_arn", "tls_ca_file_path", "force_virtual_addressing"),
    "gcs": ("access_token", "target_service_account"),
    "abfs": (),
}
_AZURE_CREDENTIALS = {"account_key": "access_key", "sas_key": "sas_token", "client_secret": "client_secret"}
_AZURE_HOST = ".blob.core.windows.net"


class Said(NamedTuple):
    """What a file system was given.

    Attributes:
        cloud: "s3", "gs" or "az".
        options: Parameters of a URI.
        keys: What nobody may write down, by obstore's names.
    """

    cloud: str
    options: dict[str, str]
    keys: dict[str, str]


def said_by(filesystem: Any) -> Said | None:
    """What pyarrow's `S3FileSystem`, `GcsFileSystem` or `AzureFileSystem`, s3fs, gcsfs or adlfs was given; None for any other.

    Raises:
        ConfigError: It was given something that our client has no setting for. The sentence repeats no value.
    """
    arrow = str(getattr(filesystem, "type_name", ""))
    if arrow in _ARROW_REFUSED:
        return _of_arrow(arrow, filesystem.__reduce__()[1][0])
    package = type(filesystem).__module__.partition(".")[0]
    if arrow or package not in ("s3fs", "gcsfs", "adlfs"):
        return None
    if filesystem.storage_args:
        raise ConfigError(f"storage_filesystem={package}: give its arguments by name, so that holdfast knows which is which.")
    given = {name: value for name, value in filesystem.storage_options.items() if name not in _PASSED_OVER}
    return {"s3fs": _of_s3fs, "gcsfs": _of_gcsfs, "adlfs": _of_adlfs}[package](given)


def _of_arrow(kind: str, given: dict[str, Any]) -> Said:
    unknown = [name for name in _ARROW_REFUSED[kind] if given.get(name)]
    if given.get("proxy_options", {}).get("host"):
        unknown.append("proxy_options")
    if unknown:
        raise _no_setting("pyarrow", unknown[0])
    names = {"s3": _ARROW_S3, "gcs": {name: name for name in ("endpoint_override", "scheme", "anonymous")}, "abfs": _ARROW_AZURE}[
        kind
    ]
    found = {names[name]: value for name, value in given.items() if name in names and value}
    if kind == "abfs":
        authority = found.pop("endpoint_override", _AZURE_HOST)
        if authority.startswith("."):  # what follows the account's name
            found["endpoint_override"] = "" if authority == _AZURE_HOST else f"{found['account_name']}{authority}"
        else:
            found["endpoint_override"] = f"{authority}/{found['account_name']}"
    return _said({"s3": "s3", "gcs": "gs", "abfs": "az"}[kind], found)


def _of_s3fs(given: dict[str, Any]) -> Said:
    given = {**(given.pop("client_kwargs", None) or {}), **given}
    if given.get("use_ssl") or given.get("endpoint_url"):
        given.pop("use_ssl", None)  # the endpoint's scheme says it
    return _said("s3", _named("s3fs", given, _S3FS))


def _of_gcsfs(given: dict[str, Any]) -> Said:
    token, more = given.pop("token", None), dict[str, Any]()
    if token == "anon":  # noqa: S105 - a word of gcsfs's, no secret
        more["anonymous"] = True
    elif isinstance(token, dict) and token.get("type") == "service_account":
        more["service_account_key"] = json.dumps(token)
    elif isinstance(token, str) and os.path.isfile(token):
        more["application_credentials"] = os.path.abspath(token)
    elif token not in (None, "google_default", "cloud"):  # for these our client looks at the same places
        raise _no_setting("gcsfs", "token")
    return _said("gs", {**_named("gcsfs", given, _GCSFS), **more})


def _of_adlfs(given: dict[str, Any]) -> Said:
    written = given.pop("connection_string", None) or ""
    parts = dict(part.split("=", 1) for part in written.split(";") if "=" in part)
    for theirs, ours in (("AccountName", "account_name"), ("AccountKey", "account_key"), ("SharedAccessSignature", "sas_token")):
        given.update({ours: parts[theirs]} if theirs in parts else {})
    host = given.pop("account_host", None) or ""
    if not host and "EndpointSuffix" in parts:
        host = f"{given.get('account_name')}.blob.{parts['EndpointSuffix']}"
    endpoint = parts.get("BlobEndpoint", "") or ("" if not host or host.endswith(_AZURE_HOST) else f"https://{host}")
    return _said("az", _named("adlfs", {**given, "endpoint_override": endpoint.rstrip("/")}, _ADLFS))


def _named(package: str, given: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """What was given, by our names."""
    unknown = [name for name, value in given.items() if name not in names and value]
    if unknown:
        raise _no_setting(package, unknown[0])
    return {names[name]: value for name, value in given.items() if name in names and value}


def _said(cloud: str, found: dict[str, Any]) -> Said:
    options = {name: str(value) for name, value in found.items() if name in _OPTIONS and value}
    keys = {name: str(value) for name, value in found.items() if name not in _OPTIONS}
    if "anonymous" in options:
        options["anonymous"] = "true"
    url = urlsplit(options.get("endpoint_override", ""))
    if url.scheme in ("http", "https"):
        options.update(endpoint_override=f"{url.netloc}{url.path}".rstrip("/"), scheme=url.scheme)
    if not options.get("endpoint_override"):
        options.pop("scheme", None)
    kinds = [kind for name, kind in _AZURE_CREDENTIALS.items() if name in keys]
    if kinds:  # the environment may hold another, which obstore would take
        keys["credential_type"] = kinds[0]
    return Said(cloud, options, keys)


def _no_setting(package: str, name: str) -> ConfigError:
    return ConfigError(
        f"storage_filesystem of {package} with {name}=...: holdfast works there through a client of its own, which has no such "
        "setting. Leave it out, or give a URI as path and credentials by the cloud's environment variables (docs/storage.md)."
    )
