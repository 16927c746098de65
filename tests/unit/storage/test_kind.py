from __future__ import annotations

import os

import pytest

from holdfast.errors import ConfigError
from holdfast.storage import kind


def test_this_machine_says_where_paths_lie(tmp_path):
    assert kind.file_system_of("/proc/self") == "proc"
    assert kind.file_system_of(str(tmp_path)) in kind.LOCAL
    assert kind.file_system_of(str(tmp_path / "not" / "there")) == kind.file_system_of(str(tmp_path))


def test_a_link_is_followed(tmp_path):
    os.symlink("/proc", tmp_path / "link")
    assert kind.file_system_of(str(tmp_path / "link" / "self")) == "proc"


def test_a_file_system_that_is_not_local_is_refused():
    with pytest.raises(ConfigError, match="'proc', which is not known to be local"):
        kind.check_local("/proc/self")


def test_local_ones_are_taken(tmp_path):
    kind.check_local(str(tmp_path))
