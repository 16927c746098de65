"""Trainables by name: a table of this process, so that a job may say "my_trainable" for the thing itself.

Knows names and what they stand for. Refuses to know jobs: what runs in a worker travels there itself, never by its name.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from holdfast.errors import ConfigError

__all__ = ["names_of", "register_env", "register_trainable", "trainable_named"]

_trainables: dict[str, Any] = {}


def register_trainable(name: str, trainable: Callable[..., Any] | type, warn: bool = True) -> None:
    """Gives a trainable a name, under which `Tuner`, `run` and `Experiment` take it in this process.

    An experiment that was submitted by name is restored by that name or with the trainable that has it. The name becomes the
    trainable's in trial and experiment names.

    Args:
        name: The name.
        trainable: A function of the config or a subclass of `holdfast.Trainable`.
        warn: Whether to warn where the name stood for another trainable before.

    Raises:
        ConfigError: The name is no text, or the trainable can be none.
    """
    if not isinstance(name, str) or not name:
        raise ConfigError(f"register_trainable({name!r}, ...): the name is a text that is not empty.")
    if isinstance(trainable, type):
        from holdfast.trainable import Trainable

        fits = issubclass(trainable, Trainable)
    else:
        fits = callable(trainable)
    if not fits:
        raise ConfigError(
            f"register_trainable({name!r}, {trainable!r}): give a function of the config or a subclass of holdfast.Trainable."
        )
    if warn and _trainables.get(name, trainable) is not trainable:
        warnings.warn(f"register_trainable({name!r}): the name stood for another trainable before.", stacklevel=2)
    _trainables[name] = trainable


def trainable_named(name: str) -> Any:
    """What a name stands for.

    Raises:
        ConfigError: Nothing in this process; lists the names that are registered.
    """
    try:
        return _trainables[name]
    except KeyError:
        known = ", ".join(map(repr, sorted(_trainables))) or "none"
        raise ConfigError(
            f"No trainable is registered as {name!r} in this process (registered: {known}). Call "
            f"register_trainable({name!r}, trainable) first, or give the trainable itself."
        ) from None


def names_of(trainable: Any) -> list[str]:
    """The names that stand for a trainable, sorted."""
    return sorted(name for name, known in _trainables.items() if known is trainable)


def register_env(name: str, env_creator: Callable[..., Any]) -> None:  # noqa: ARG001 - Ray Tune's signature
    """Refused: environments by name are for Ray's RLlib, and nothing here would look one up.

    Raises:
        ConfigError: Always.
    """
    raise ConfigError(
        f"register_env({name!r}, ...): environments by name are for RLlib, which runs on Ray only. Create the environment in the "
        "trainable, or hand its creator over: with_parameters(trainable, env_creator=...)."
    )
