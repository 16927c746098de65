"""The stopper that stops nothing."""

from __future__ import annotations

from typing import Any

from holdfast.stopper.base import Stopper

__all__ = ["NoopStopper"]


class NoopStopper(Stopper):
    """Stops nothing."""

    own_chance = True

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return False
