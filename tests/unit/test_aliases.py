"""Ray Tune's import paths: each leads somewhere, hides nothing, and costs nothing until it is used."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast import result
from holdfast._aliases import ALIASES, RESULT_KEYS

LOADABLE = [alias for alias, real in ALIASES.items() if "integration" not in real]
SCRIPT = """
import sys, holdfast
before = set(sys.modules)
assert not before & set({aliases!r}), before
from holdfast.execution.placement_groups import PlacementGroupFactory
from holdfast.experiment import Trial
from holdfast.experiment.trial import Trial as Same
from holdfast.progress_reporter import CLIReporter
from holdfast.result_grid import ResultGrid
from holdfast.schedulers.trial_scheduler import FIFOScheduler, TrialScheduler
from holdfast.search.searcher import Searcher
from holdfast.stopper.stopper import Stopper
from holdfast.tune_config import TuneConfig
from holdfast.error import TuneError
from holdfast.logger.logger import LoggerCallback
from holdfast.logger.tensorboardx import TBXLoggerCallback
assert Trial is Same is holdfast.Trial and TuneConfig is holdfast.TuneConfig and TuneError is holdfast.TuneError
assert PlacementGroupFactory is holdfast.PlacementGroupFactory and Stopper is holdfast.Stopper
assert holdfast.tune_config is sys.modules["holdfast.config"]
"""


def test_names_come_from_where_ray_tune_has_them():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(aliases=list(ALIASES))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("alias", LOADABLE)
def test_an_alias_is_the_module_that_it_stands_for(alias):
    real = ALIASES[alias]
    found = importlib.import_module(alias)
    if real:
        assert found is importlib.import_module(real)
        assert found.__name__ == real
        assert found.__spec__.name == real


def test_no_alias_hides_a_module_of_ours():
    for alias in ALIASES:
        path = Path(result.__file__).parents[1] / alias.replace(".", "/")
        assert not path.exists()
        assert not path.with_suffix(".py").exists()


def test_what_is_not_in_the_table_is_not_found():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("holdfast.dance")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("holdfast.experiment.dance")


def test_the_names_of_keys_are_in_result():
    assert {name: getattr(result, name) for name in RESULT_KEYS} == RESULT_KEYS
    with pytest.raises(AttributeError, match="DANCE"):
        _ = result.DANCE
