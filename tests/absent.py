"""Libraries that `make` does not install and continuous integration does (`.ci/run`): torch, and what rests on it."""

from __future__ import annotations

import importlib.util
import os

import pytest


def absent(*libraries: str) -> list[str]:
    """Those that are missing; in CI none is said to be, so that its tests fail."""
    return [name for name in libraries if "CI" not in os.environ and importlib.util.find_spec(name) is None]


def needs(*libraries: str) -> pytest.MarkDecorator:
    """Skips a test where a library is missing, but for CI."""
    return pytest.mark.skipif(bool(absent(*libraries)), reason=f"{', '.join(libraries)}: only .ci/run installs it")
