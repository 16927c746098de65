"""The one error that Python itself acts on: what a script ends with that does not catch it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from holdfast.errors import ExperimentInterrupted


def test_it_is_a_keyboard_interrupt_that_carries_what_there_is() -> None:
    with pytest.raises(KeyboardInterrupt, match=r"restore with Tuner\.restore") as caught:
        raise ExperimentInterrupted("/results/exp", 15, ["result"])
    error = caught.value
    assert isinstance(error, ExperimentInterrupted)
    assert (error.path, error.signal, error.results, error.code) == ("/results/exp", 15, ["result"], 143)
    assert not isinstance(error, Exception), "an `except Exception` around fit() lets it pass"


@pytest.mark.parametrize(("made", "code"), [("('p', 2)", 130), ("('p', 10)", 138), ("('p', 15, None, 75)", 75)])
@pytest.mark.parametrize("inside", ["raise it", "import asyncio\nasync def main(): raise it\nasyncio.run(main())"])
def test_a_script_that_does_not_catch_it_ends_with_its_code_and_in_silence(made: str, code: int, inside: str) -> None:
    script = f"from holdfast.errors import ExperimentInterrupted\nit = ExperimentInterrupted{made}\n{inside}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")
