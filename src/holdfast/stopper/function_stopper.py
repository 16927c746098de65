"""The stopper that asks a user's function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from holdfast.errors import ConfigError
from holdfast.stopper.base import Stopper

__all__ = ["FunctionStopper"]


class FunctionStopper(Stopper):
    """Stops a trial when `function(trial_id, result)` is true.

    Args:
        function: Any callable of two arguments, bound methods included.

    Raises:
        ConfigError: `function` cannot be called, or not with two arguments.
    """

    def __init__(self, function: Callable[[str, dict[str, Any]], bool]) -> None:
        if not callable(function):
            raise ConfigError(f"{function!r} cannot be called. Give a function of (trial_id, result), a Stopper or a dict.")
        _check_arguments(function)
        self._function = function

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return bool(self._function(trial_id, result))

    def stop_all(self) -> bool:
        return False

    @classmethod
    def is_valid_function(cls, fn: Any) -> bool:
        """Whether `fn` is a plain callable.

        Raises:
            ConfigError: It has `stop_all` but is no `Stopper`.
        """
        if not callable(fn) or isinstance(fn, Stopper):
            return False
        if hasattr(fn, "stop_all"):
            raise ConfigError(f"{fn!r} has stop_all() but is no Stopper. Derive its class from holdfast.stopper.Stopper.")
        return True


def _check_arguments(function: Callable[..., Any]) -> None:
    from inspect import signature

    try:
        parameters = signature(function)
    except (TypeError, ValueError):
        return  # some built-in callables do not tell
    try:
        parameters.bind("trial_id", {})
    except TypeError:
        raise ConfigError(f"A stop function is called with (trial_id, result); {function!r} takes {parameters}.") from None
