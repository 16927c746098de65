"""What holds for every test: a clean environment, nothing written into the user's home, no process left behind.

Tests under `integration` start real processes: they are marked slow, and pytest-xdist gives them to one worker, one
after another, so that they do not take the cores from each other.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import hypothesis
import psutil
import pytest

pytest.register_assert_rewrite("holdfast.testing")  # so that a suite's failure shows what was compared

HERE = Path(__file__).parent
NOT_FOR_TESTS = ("HOLDFAST_", "TUNE_", "RAY_", "PYTHONBREAKPOINT")  # Ray sets the last one in each process that it is used in

# Examples are drawn from a fixed seed, so that a run can be repeated; `explore` draws fresh ones (`make test-slow`).
hypothesis.settings.register_profile("repeat", derandomize=True, deadline=None, print_blob=True)
hypothesis.settings.register_profile("explore", max_examples=1000, deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE / "integration"):
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.xdist_group("integration"))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No variable of the developer's shell, or of a library, reaches a test, and no test reaches the developer's results."""
    for name in [name for name in os.environ if name.startswith(NOT_FOR_TESTS)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOLDFAST_RESULTS_DIR", str(tmp_path_factory.getbasetemp() / "holdfast_results"))


@pytest.fixture(autouse=True, scope="module")
def no_process_left_behind():
    """A file's tests end the processes that they start, apart from those that the whole run shares: multiprocessing's own
    resource tracker, and the interpreters of `simulation.fresh`.
    """
    before = set(psutil.Process().children(recursive=True))
    yield
    new = [process for process in psutil.Process().children(recursive=True) if process not in before]
    new = [
        process for process in new if not any(shared in _command(process) for shared in ("resource_tracker", "simulation.fresh"))
    ]
    _, left = psutil.wait_procs(new, timeout=2)
    named = [f"{process.pid}: {_command(process)}" for process in left]
    assert not named, named


def _command(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return "gone meanwhile"
