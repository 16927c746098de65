"""The examples that stand beside Ray Tune's own, each way in them: run here, trial by trial, with fewer samples."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, which has loaded most of the libraries."""
    monkeypatch.setenv("HOLDFAST_ENGINE", "inline")


def example(name: str) -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name=name))


@pytest.mark.parametrize("way", list(example("searchers").WAYS))
def test_searchers(way: str, tmp_path: Path) -> None:
    grid = example("searchers").searched(way, tmp_path, samples=6)
    assert (len(grid), grid.num_errors) == (6, 0)
    assert grid.get_best_result("accuracy", "max").metrics["accuracy"] > 0.9


@pytest.mark.parametrize("name", list(example("early_stopping").SCHEDULERS))
def test_schedulers(name: str, tmp_path: Path) -> None:
    early_stopping = example("early_stopping")
    grid = early_stopping.trained(name, tmp_path)
    rows = [result.metrics["training_iteration"] for result in grid]
    assert grid.num_errors == 0
    assert max(rows) == early_stopping.EPOCHS
    assert (min(rows) == early_stopping.EPOCHS) == (name in {"fifo", "pbt", "pb2"})


@pytest.mark.parametrize("name", ["xgboost", "lightgbm"])
def test_boosted_trees(name: str, tmp_path: Path) -> None:
    trees = example("boosted_trees")
    grid = trees.boosted(name, tmp_path, samples=3)
    assert (len(grid), grid.num_errors) == (3, 0)
    assert max(result.metrics["training_iteration"] for result in grid) == trees.ROUNDS
    assert grid.get_best_result().checkpoint is not None


def test_callbacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example("callbacks").main(str(tmp_path))
    told = capsys.readouterr().out.splitlines()
    assert sum(" row 12: loss " in line for line in told) == 2
    assert sum(line.endswith(" ended") for line in told) == 2
    assert told[-2] == "with rate 0.02 it saved at rows [1, 10]"
    assert told[-1].startswith("with rate 0.3 it saved at rows [1, 2, 3,")
