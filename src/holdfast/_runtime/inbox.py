"""Requests from outside: files that somebody put into `requests/`, taken up by the driver.

Whoever asks creates a file exclusively and never writes the journal. The driver puts `RequestReceived` on record, and only
then removes the file; one that a crash left there is known by its id and not taken up twice.
"""

from __future__ import annotations

import json
import secrets
import warnings

from holdfast._core.events import RequestReceived
from holdfast._core.experiment import ExperimentState
from holdfast.errors import ConfigError
from holdfast.storage.base import Storage

__all__ = ["VERBS", "Inbox", "ask"]

VERBS = ("stop", "pause", "resume")
_FOLDER = "requests"
_EVERY_S = 0.5


def ask(storage: Storage, verb: str, trial_id: str = "") -> str:
    """Asks the experiment's driver for something; returns the request's id. It is durable; a later driver takes it up too.

    Raises:
        ConfigError: There is no such verb.
        StorageError: The directory cannot be written to.
    """
    if verb not in VERBS:
        raise ConfigError(f"{verb!r} cannot be asked for; there are {', '.join(VERBS)}.")
    request = secrets.token_hex(8)
    storage.put_if_absent(f"{_FOLDER}/{request}", json.dumps({"verb": verb, "trial": trial_id}).encode())
    return request


class Inbox:
    """What the driver looks through now and then."""

    def __init__(self, storage: Storage, state: ExperimentState) -> None:
        self._storage = storage
        self._state = state
        self._next = 0.0

    def requests(self, now: float) -> list[RequestReceived]:
        """What is to go on record, at most every half second. `now` is monotonic seconds."""
        if now < self._next:
            return []
        self._next = now + _EVERY_S
        return [found for name in self._storage.names(_FOLDER) if (found := self._read(name)) is not None]

    def remove(self, request: str) -> None:
        """Removes a request that is on record."""
        self._storage.delete(f"{_FOLDER}/{request}")

    def _read(self, name: str) -> RequestReceived | None:
        """The request of that name; one that was taken up before, or that cannot be met, is removed."""
        if name not in self._state.requests:
            try:
                asked = json.loads(self._storage.read(f"{_FOLDER}/{name}"))
                verb, trial_id = str(asked["verb"]), str(asked["trial"])
            except (ValueError, KeyError, TypeError):
                verb = trial_id = ""
            if verb in VERBS and (not trial_id or trial_id in self._state.trials):
                return RequestReceived(name, verb, trial_id)
            warnings.warn(f"{_FOLDER}/{name} asks for nothing that this experiment can do, and was removed.", stacklevel=2)
        self.remove(name)
        return None
