"""Only installed modules that the trainable names are loaded ahead."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import sklearn.svm

from holdfast.engines.local.preload import modules_needed


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


@pytest.mark.parametrize("directory", ["site-packages", "dist-packages"])
def test_a_module_that_is_installed_elsewhere_is_loaded_ahead(
    directory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with `pip install --user`, in an environment that sees the system's packages, and on Debian."""
    (tmp_path / directory).mkdir()
    (tmp_path / directory / "installed_elsewhere.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path / directory))
    spec = importlib.util.find_spec("installed_elsewhere")
    assert spec is not None
    monkeypatch.setitem(sys.modules, "installed_elsewhere", importlib.util.module_from_spec(spec))
    assert modules_needed(b"\x8c\x13installed_elsewhere") == ["installed_elsewhere"]


BEGIN = """
import os, threading, time
from holdfast.engines.local.preload import fit_to_fork, load_all
def threads(): return len(os.listdir("/proc/self/task"))
def no_child():
    try: os.waitpid(-1, os.WNOHANG)
    except ChildProcessError: return True
"""


def said(program: str, **environment: str) -> str:
    """What a program prints in a process of its own: that of the tests has threads of many libraries."""
    command = [sys.executable, "-c", BEGIN + program]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_a_module_that_cannot_be_loaded_is_left_out() -> None:
    assert said("print([load_all(['there_is_no_such_module', 'wave'])], 'wave' in __import__('sys').modules)") == "[''] True"


def test_the_package_that_starts_a_thread_is_named(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    thread = "threading.Thread(target=time.sleep, args=(600,), daemon=True)"
    (tmp_path / "package" / "part.py").write_text(f"import threading, time\n{thread}.start()\n")
    program = "print(load_all(['chunk', 'package.part', 'wave']), 'wave' in __import__('sys').modules)"
    assert said(program, PYTHONPATH=str(tmp_path)) == "package False"
    program = "print([load_all(['wave', 'package.part'], without=['package'])], 'wave' in __import__('sys').modules)"
    assert said(program, PYTHONPATH=str(tmp_path)) == "[''] True"


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="OpenBLAS starts no threads on one core")
@pytest.mark.slow
def test_threads_that_end_before_a_fork_are_no_hindrance() -> None:
    program = """
load_all(["numpy"])
fit = [fit_to_fork()]
import numpy
for _ in range(3):
    numpy.ones((600, 600)) @ numpy.ones((600, 600))
    assert threads() > 1
    fit.append(fit_to_fork())
print(*fit, threads(), no_child())
"""
    assert said(program, OPENBLAS_NUM_THREADS="2") == "True True True True 1 True"


@pytest.mark.parametrize(("name", "fit"), [("jemalloc_bg_thd", True), ("polars-ooc-clea", False), ("python", False)])
def test_threads_that_stay_are_known_by_name(name: str, fit: bool) -> None:
    program = f"""
begun = threading.Event()
def stay():
    with open(f"/proc/self/task/{{threading.get_native_id()}}/comm", "w") as file: file.write({name!r})
    begun.set()
    time.sleep(600)
threading.Thread(target=stay, daemon=True).start()
begun.wait()
print(fit_to_fork(), no_child())
"""
    assert said(program) == f"{fit} True"


def test_the_thread_that_asks_is_none_that_would_be_missed() -> None:
    program = """
def ask(): print(fit_to_fork())
asking = threading.Thread(target=ask)
asking.start()
asking.join()
"""
    assert said(program) == "False", "the main thread would be missed"
