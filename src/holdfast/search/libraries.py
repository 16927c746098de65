"""The optimizers' libraries, none of which holdfast depends on: loaded when a searcher that needs one is made.

This module knows how a missing one is reported. It refuses to know what they can do.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from holdfast.errors import ConfigError

__all__ = ["load"]


def load(module: str, extra: str, of: str) -> Any:
    """The module of an optional library.

    Args:
        module: What is imported, such as "optuna".
        extra: The extra of holdfast that installs it.
        of: The searcher that needs it, for the message.

    Raises:
        ConfigError: It is not installed; names the extra. A library that is there and fails to load raises its own error.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise ConfigError(f"{of} needs {error.name}, which is not installed: pip install 'holdfast[{extra}]'.") from error
