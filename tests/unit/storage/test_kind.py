from __future__ import annotations

import os

from holdfast.storage import kind
from holdfast.storage.local import LocalStorage
from holdfast.storage.network import NetworkStorage
from holdfast.storage.opening import open_storage


def test_this_machine_says_where_paths_lie(tmp_path):
    assert kind.file_system_of("/proc/self") == "proc"
    assert kind.file_system_of(str(tmp_path)) in kind.LOCAL
    assert kind.file_system_of(str(tmp_path / "not" / "there")) == kind.file_system_of(str(tmp_path))


def test_a_link_is_followed(tmp_path):
    os.symlink("/proc", tmp_path / "link")
    assert kind.file_system_of(str(tmp_path / "link" / "self")) == "proc"


def test_what_is_not_known_to_be_local_is_not_trusted_with_appends(tmp_path):
    assert not kind.is_local("/proc/self")
    assert isinstance(open_storage("/proc/self"), NetworkStorage)
    assert kind.is_local(str(tmp_path))
    assert isinstance(open_storage(tmp_path), LocalStorage)
