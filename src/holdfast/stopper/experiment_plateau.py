"""The stopper that ends the experiment when its best values no longer move."""

from __future__ import annotations

from bisect import insort
from typing import Any

from holdfast.errors import ConfigError
from holdfast.stopper.base import Stopper
from holdfast.stopper.trial_plateau import is_number, spread

__all__ = ["ExperimentPlateauStopper"]


class ExperimentPlateauStopper(Stopper):
    """Ends the experiment when its best values stand still.

    They do when the `top` best values of `metric`, of all rows of all trials, have a standard deviation of at most `std`.
    Rows whose metric is missing, NaN or infinite are passed over.

    Args:
        metric: What is watched.
        std: The standard deviation at which the experiment stands still.
        top: How many of the best values are looked at.
        mode: "min" or "max".
        patience: For how many rows on end it must stand still.
    """

    own_chance = True

    def __init__(self, metric: str, std: float = 0.001, top: int = 10, mode: str = "min", patience: int = 0) -> None:
        if mode not in ("min", "max"):
            raise ConfigError(f"mode must be 'min' or 'max', not {mode!r}.")
        if not isinstance(top, int) or top < 2:
            raise ConfigError(f"top must be a whole number of 2 or more, not {top!r}.")
        if not isinstance(patience, int) or patience < 0:
            raise ConfigError(f"patience must be a whole number of 0 or more, not {patience!r}.")
        if not is_number(std) or not std > 0:
            raise ConfigError(f"std must be a number above 0, not {std!r}.")
        self._metric = metric
        self._std = std
        self._top = top
        self._mode = mode
        self._patience = patience
        self._still = 0
        self._best: list[float] = []  # ascending

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        value = result.get(self._metric)
        if is_number(value):
            insort(self._best, float(value))  # type: ignore[arg-type]
            if len(self._best) > self._top:
                self._best.pop(-1 if self._mode == "min" else 0)
            self._still = self._still + 1 if self.has_plateaued() else 0
        return self.stop_all()

    def has_plateaued(self) -> bool:
        """Whether the best values stand still now."""
        return len(self._best) == self._top and spread(self._best) <= self._std

    def stop_all(self) -> bool:
        return self._still >= max(self._patience, 1) and self.has_plateaued()
