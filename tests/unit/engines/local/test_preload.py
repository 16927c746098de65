"""Only installed modules that the trainable names are loaded ahead."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import sklearn.svm

from holdfast.engines.local.preload import load_all, modules_needed, threads


def test_modules_that_the_pickle_names_are_found() -> None:
    def trainable(_: object) -> object:
        return np.ones(3), sklearn.svm.SVC()

    needed = modules_needed(cloudpickle.dumps(trainable))
    assert {"numpy", "sklearn.svm"} <= set(needed)
    assert not {"pytest", "__main__", __name__} & set(needed)


def test_a_module_beside_the_script_is_not_loaded_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "beside_the_script.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = importlib.util.find_spec("beside_the_script")
    assert spec is not None
    monkeypatch.setitem(sys.modules, "beside_the_script", importlib.util.module_from_spec(spec))
    assert modules_needed(b"\x8c\x11beside_the_script \x8c\x04json") == ["json"]


def test_a_module_that_cannot_be_loaded_is_left_out() -> None:
    before = threads()
    assert load_all(["there_is_no_such_module", "json"]) is (before == 1)
