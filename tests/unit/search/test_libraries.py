from __future__ import annotations

import pytest

from holdfast.errors import ConfigError
from holdfast.search.libraries import load


def test_a_missing_library_names_the_extra() -> None:
    with pytest.raises(ConfigError, match=r"FooSearch needs no_such_library, .* pip install 'holdfast\[foo\]'"):
        load("no_such_library.part", "foo", "FooSearch")


def test_a_library_that_is_there_and_lacks_something_says_so_itself(tmp_path, monkeypatch) -> None:
    (tmp_path / "half_installed.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        load("half_installed", "foo", "FooSearch")


def test_a_library_that_is_there_is_given() -> None:
    import json

    assert load("json", "foo", "FooSearch") is json
