"""Requests from outside: files that somebody put into `requests/`, taken up by the driver.

Whoever asks creates a file exclusively and never writes the journal. The driver puts `RequestReceived` on record, and only
then removes the file; one that a crash left there is known by its id and not taken up twice. A store is looked at from a thread:
one that does not answer must not keep the driver from its trials.
"""

from __future__ import annotations

import json
import secrets
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from holdfast._core.events import RequestReceived
from holdfast._core.experiment import ExperimentState
from holdfast.errors import ConfigError
from holdfast.storage.base import Storage

__all__ = ["VERBS", "Inbox", "ask"]

VERBS = ("stop", "pause", "resume")
_FOLDER = "requests"
_EVERY_S = 0.5
_STORE_EVERY_S = 2.0


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
    """What the driver looks through now and then. One thread calls it.

    Args:
        storage: The experiment's.
        state: The fold, which knows what was taken up before.
        aside: Whether a thread looks while it is `watched`, every two seconds; else `requests` does, every half second.
    """

    def __init__(self, storage: Storage, state: ExperimentState, *, aside: bool = False) -> None:
        self._storage = storage
        self._state = state
        self._aside = aside
        self._next = 0.0
        self._had: set[str] = set()
        self._lock = threading.Lock()
        self._found: list[tuple[str, bytes]] = []
        self._done: list[str] = []
        self._leave = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Looks from a thread meanwhile, where it is to be aside.

        At a good end what was taken up is removed; after an error nothing is waited for: the store may not answer.
        """
        if self._aside:
            self._thread = threading.Thread(target=self._run, name="holdfast-inbox", daemon=True)
            self._thread.start()
        try:
            yield
        except BaseException:
            self._leave.set()
            raise
        self._finish()

    def requests(self, now: float) -> list[RequestReceived]:
        """What is to go on record. `now` is monotonic seconds.

        Raises:
            StorageError: The place cannot be looked at.
        """
        if self._error is not None:
            raise self._error
        if self._aside:
            with self._lock:
                letters, self._found = self._found, []
        elif now < self._next:
            return []
        else:
            self._next = now + _EVERY_S
            letters = self._look()
        return [found for letter in letters if (found := self._read(*letter)) is not None]

    def remove(self, request: str) -> None:
        """Removes a request that is on record."""
        if self._aside:
            with self._lock:
                self._done.append(request)
        else:
            self._storage.delete(f"{_FOLDER}/{request}")

    def _finish(self) -> None:
        """Waits until what was to be removed is."""
        if self._thread is not None:
            self._leave.set()
            self._thread.join()
        self._remove_done()

    def _remove_done(self) -> None:
        with self._lock:
            done, self._done = self._done, []
        for request in done:
            self._storage.delete(f"{_FOLDER}/{request}")

    def _look(self) -> list[tuple[str, bytes]]:
        """The requests that lie there, but for those that were found before."""
        letters = []
        for name in self._storage.names(_FOLDER):
            if name not in self._had:
                try:
                    letters.append((name, self._storage.read(f"{_FOLDER}/{name}")))
                except FileNotFoundError:
                    continue  # a driver that was overtaken meanwhile had put it on record, and removes it now
                if self._aside:
                    self._had.add(name)
        return letters

    def _run(self) -> None:
        try:
            while not self._leave.wait(_STORE_EVERY_S):
                found = self._look()
                with self._lock:
                    self._found += found
                self._remove_done()
        except Exception as error:  # noqa: BLE001 - it is raised again where somebody hears of it
            self._error = error

    def _read(self, name: str, data: bytes) -> RequestReceived | None:
        """The request of that name; one that was taken up before, or that cannot be met, is removed."""
        if name not in self._state.requests:
            try:
                asked = json.loads(data)
                verb, trial_id = str(asked["verb"]), str(asked["trial"])
            except (ValueError, KeyError, TypeError):
                verb = trial_id = ""
            if verb in VERBS and (not trial_id or trial_id in self._state.trials):
                return RequestReceived(name, verb, trial_id)
            warnings.warn(f"{_FOLDER}/{name} asks for nothing that this experiment can do, and was removed.", stacklevel=2)
        self.remove(name)
        return None
