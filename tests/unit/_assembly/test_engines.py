"""Which engine runs an experiment: the one named, else Ray's where this process is on Ray or told to be, else the local one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from holdfast._assembly.engines import engine_named
from holdfast.errors import ConfigError


def test_the_one_named_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setenv("HOLDFAST_ENGINE", "inline")
    assert engine_named("local").name == "local"
    assert engine_named(None).name == "inline"


def test_an_address_of_a_cluster_means_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert engine_named(None).name == "ray"


def test_a_process_that_is_connected_to_ray_runs_there(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    assert engine_named(None).name == "local"
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    assert engine_named(None).name == "ray"


def test_ray_is_not_loaded_to_find_out() -> None:
    code = "from holdfast._assembly.engines import engine_named as e; import sys; print(e(None).name, 'ray' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["local", "False"]


def test_without_ray_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("holdfast.engines.ray.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'holdfast\[ray\]'"):
        engine_named("ray")
