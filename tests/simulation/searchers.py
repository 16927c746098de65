"""Searchers as users write them, which cannot be pickled once they have begun."""

from __future__ import annotations

import json
import random
import threading
from typing import Any

from holdfast.search import Searcher


class HoldsLock(Searcher):
    """Learns, draws from `random`, and holds a lock: it has no pickle and no other way to be kept. It is replayed."""

    def __init__(self) -> None:
        super().__init__()
        self.best = (float("inf"), 0.5)
        self.lock: Any = None

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        self._metric, self._mode = metric, mode
        self.lock = threading.Lock()
        return True

    def suggest(self, trial_id: str) -> dict[str, Any]:
        with self.lock:
            x = min(max(random.gauss(self.best[1], 0.2), 0.0), 1.0)
            return {"x": x, "y": random.choice([0, 1, 2]), "deep": {"n": random.randrange(1, 100)}}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        with self.lock:
            if result is not None and "score" in result:
                self.best = min(self.best, (result["score"], result["score"] % 1.0))


class SavesItself(HoldsLock):
    """The same, with a way of its own to be kept: `save` and `restore`. It is restored through them.

    Attributes:
        restored: How often that has happened in this process.
    """

    restored = 0

    def save(self, checkpoint_path: str) -> None:
        with open(checkpoint_path, "w", encoding="utf-8") as file:
            json.dump(self.best, file)

    def restore(self, checkpoint_path: str) -> None:
        with open(checkpoint_path, encoding="utf-8") as file:
            self.best = tuple(json.load(file))
        type(self).restored += 1


class CannotRestore(SavesItself):
    """The same, whose `restore` fails half-way: then it is replayed, by one that knows nothing of it."""

    def restore(self, checkpoint_path: str) -> None:
        self.best = (-1.0, -1.0)
        type(self).restored += 1
        raise OSError("no")
