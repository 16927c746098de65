"""Ceph's S3 server (radosgw) on loopback: a real one, with a cluster of one monitor and one store in memory behind it.

Debian packages: radosgw ceph-mon ceph-osd ceph-common. They are large and slow to start, so only soak tests use them, and
where they are missing those tests fail.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pyarrow import fs

from object_servers import S3_ENVIRONMENT, Server, free_port, s3_uri, wait_for

_PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
_CONFIG = """
[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{mon}/0]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
keyring = {folder}/keyring
admin_socket = {folder}/$name.asok
log_file =
log_to_stderr = false
run_dir = {folder}
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_data = {folder}/mon
osd_data = {folder}/osd
osd_objectstore = memstore
memstore_device_bytes = 4294967296
rgw_frontends = beast endpoint=127.0.0.1:{port}
rgw_data = {folder}
rgw_rados_pool_pg_num_min = 1
[osd]
keyring = {folder}/osd/keyring
[client.rgw]
keyring = {folder}/rgw-keyring
"""


@contextmanager
def radosgw() -> Iterator[Server]:
    """The server with an empty bucket; its processes are ended with the block."""
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.fail(
            f"{', '.join(missing)} missing: apt-get install --no-install-recommends radosgw ceph-mon ceph-osd ceph-common"
        )
    with tempfile.TemporaryDirectory(prefix="ceph-") as folder:  # a short name: sockets lie in it
        cluster = _Cluster(Path(folder))
        try:
            yield cluster.start()
        finally:
            cluster.end()


class _Cluster:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port, self._mon, self._fsid = free_port(), free_port(), str(uuid.uuid4())
        self._started: list[subprocess.Popen[bytes]] = []
        config = _CONFIG.format(fsid=self._fsid, folder=folder, mon=self._mon, port=self._port)
        (folder / "ceph.conf").write_text(config)

    def start(self) -> Server:
        self._monitor()
        self._store()
        rights = ["mon", "allow rw", "osd", "allow rwx"]
        self._call("ceph", "auth", "get-or-create", "client.rgw", *rights, "-o", str(self._folder / "rgw-keyring"))
        keys = ["--access-key", S3_ENVIRONMENT["AWS_ACCESS_KEY_ID"], "--secret", S3_ENVIRONMENT["AWS_SECRET_ACCESS_KEY"]]
        self._call("radosgw-admin", "user", "create", "--uid", "test", "--display-name", "test", *keys)
        process = self._begin("radosgw", "-f", "-n", "client.rgw")
        wait_for(self._port, process)
        endpoint = f"127.0.0.1:{self._port}"
        keys_of_test = {"access_key": "test", "secret_key": "test"}
        fs.S3FileSystem(
            **keys_of_test, scheme="http", region="us-east-1", endpoint_override=endpoint, allow_bucket_creation=True
        ).create_dir("bucket")
        return Server(s3_uri(self._port), S3_ENVIRONMENT, self._port, process)

    def end(self) -> None:
        for process in reversed(self._started):
            process.kill()
            process.wait()

    def _monitor(self) -> None:
        keyring = str(self._folder / "keyring")
        self._call("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        everything = [word for service in ("mon", "osd", "mgr") for word in ("--cap", service, "allow *")]
        self._call("ceph-authtool", keyring, "--gen-key", "-n", "client.admin", *everything)
        address = f"[v2:127.0.0.1:{self._mon}/0]"
        self._call("monmaptool", "--create", "--addv", "a", address, "--fsid", self._fsid, str(self._folder / "monmap"))
        (self._folder / "mon").mkdir()
        self._call("ceph-mon", "--mkfs", "-i", "a", "--monmap", str(self._folder / "monmap"), "--keyring", keyring)
        wait_for(self._mon, self._begin("ceph-mon", "-f", "-i", "a"))

    def _store(self) -> None:
        (self._folder / "osd").mkdir()
        name = str(uuid.uuid4())
        self._call("ceph", "osd", "new", name)
        rights = ["mon", "allow profile osd", "osd", "allow *"]
        self._call("ceph", "auth", "get-or-create", "osd.0", *rights, "-o", str(self._folder / "osd" / "keyring"))
        self._call("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", name)
        process = self._begin("ceph-osd", "-f", "-i", "0")
        deadline = time.monotonic() + 60
        while json.loads(self._call("ceph", "osd", "stat", "--format", "json"))["num_up_osds"] < 1:
            assert process.poll() is None, f"ceph-osd ended with {process.returncode}"
            assert time.monotonic() < deadline, "the store does not come up"
            time.sleep(0.1)

    def _words(self, words: tuple[str, ...]) -> list[str]:
        own = [] if words[0] in ("ceph-authtool", "monmaptool") else ["-c", str(self._folder / "ceph.conf")]
        return [words[0], *own, *words[1:]]

    def _call(self, *words: str) -> str:
        done = subprocess.run(self._words(words), capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done.stdout

    def _begin(self, *words: str) -> subprocess.Popen[bytes]:
        quiet = subprocess.DEVNULL
        environment = {**os.environ, "TCMALLOC_MAX_TOTAL_THREAD_CACHE_BYTES": str(32 << 20)}
        self._started.append(subprocess.Popen(self._words(words), stdout=quiet, stderr=quiet, env=environment))
        return self._started[-1]
