"""File systems as users hand them over, each for one of the servers that tests start, with the keys that this asks for."""

from __future__ import annotations

from typing import Any

from pyarrow import fs

from object_servers import AZURITE_KEY, Server

__all__ = ["adlfs", "gcsfs", "pyarrow_azure", "pyarrow_s3", "s3fs"]

_ACCOUNT = "devstoreaccount1"


def pyarrow_s3(server: Server, secret: str = "test") -> Any:
    keys = {"access_key": "test", "secret_key": secret}
    return fs.S3FileSystem(region="us-east-1", scheme="http", endpoint_override=f"127.0.0.1:{server.port}", **keys)


def s3fs(server: Server, secret: str = "test") -> Any:
    from s3fs import S3FileSystem

    client = {"endpoint_url": f"http://127.0.0.1:{server.port}", "region_name": "us-east-1"}
    return wrapped(S3FileSystem(key="test", secret=secret, client_kwargs=client, use_listings_cache=False))


def pyarrow_azure(server: Server) -> Any:
    authority = f"127.0.0.1:{server.port}"
    more = {"dfs_storage_authority": authority, "dfs_storage_scheme": "http"}
    return fs.AzureFileSystem(
        _ACCOUNT, account_key=AZURITE_KEY, blob_storage_authority=authority, blob_storage_scheme="http", **more
    )


def adlfs(server: Server) -> Any:
    from adlfs import AzureBlobFileSystem

    parts = {
        "DefaultEndpointsProtocol": "http",
        "AccountName": _ACCOUNT,
        "AccountKey": AZURITE_KEY,
        "BlobEndpoint": f"http://127.0.0.1:{server.port}/{_ACCOUNT}",
    }
    return wrapped(AzureBlobFileSystem(connection_string=";".join(f"{name}={value}" for name, value in parts.items())))


def gcsfs(server: Server) -> Any:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from gcsfs import GCSFileSystem

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {
        "type": "service_account",
        "client_email": "somebody@project",
        "private_key_id": "1",
        "private_key": key.decode(),
        "token_uri": "http://localhost:1",
        "disable_oauth": True,  # obstore's word for a stand-in of Google's, which asks for no token
    }
    return wrapped(GCSFileSystem(token=account, endpoint_url=f"http://127.0.0.1:{server.port}"))


def wrapped(given: Any) -> fs.FileSystem:
    """fsspec's as pyarrow's, which Ray Tune takes."""
    return fs.PyFileSystem(fs.FSSpecHandler(given))
