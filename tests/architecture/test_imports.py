"""Who may import whom (the contracts in pyproject.toml), and what `import holdfast` may cost."""

from __future__ import annotations

import subprocess
import sys

import pytest

# What a program must not pay for that only wants to say `from holdfast import Tuner`.
HEAVY = {
    "aim",
    "asyncio",
    "click",
    "cloudpickle",
    "comet_ml",
    "concurrent.futures",
    "http",
    "IPython",
    "json",
    "keras",
    "lightgbm",
    "lightning",
    "logging",
    "matplotlib",
    "mlflow",
    "multiprocessing",
    "numpy",
    "optuna",
    "pandas",
    "plotly",
    "polars",
    "pyarrow",
    "ray",
    "rich",
    "scipy",
    "sklearn",
    "tempfile",
    "tensorboardX",
    "torch",
    "transformers",
    "unittest",
    "urllib.request",
    "wandb",
    "xgboost",
}
PUBLIC = "from holdfast import Checkpoint, RunConfig, TuneConfig, Tuner, get_checkpoint, report, uniform"


@pytest.mark.slow
def test_the_import_contracts_are_kept(root):
    command = "from importlinter.cli import lint_imports_command as run; run()"
    options = ["--no-logo", "--no-cache", "--config", "pyproject.toml"]
    done = subprocess.run([sys.executable, "-c", command, *options], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "9 kept, 0 broken" in done.stdout


def loaded_by(statement: str) -> set[str]:
    """The modules that a statement loads into a fresh interpreter."""
    code = f"import sys; before = set(sys.modules); {statement}; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("statement", ["import holdfast", PUBLIC])
def test_importing_loads_nothing_heavy(statement):
    loaded = loaded_by(statement)
    assert "holdfast" in loaded
    assert HEAVY & loaded == set()


def test_results_and_screens_load_nothing_heavy():
    """Plots, dataframes, live tables and reporters load what they need when they are asked."""
    assert loaded_by("import holdfast.console, holdfast.plots, holdfast.result") & (HEAVY - {"json", "logging"}) == set()
    assert "holdfast.console" not in loaded_by(PUBLIC)
    assert "holdfast.plots" not in loaded_by("import holdfast")


def test_the_worker_loads_nothing_of_the_driver():
    loaded = loaded_by("import holdfast._worker.main")
    assert "holdfast._worker.main" in loaded
    assert {"holdfast._runtime", "holdfast._journal", "click", "numpy", "pandas", "ray", "rich"} & loaded == set()
