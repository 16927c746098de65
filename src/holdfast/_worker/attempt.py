"""One attempt as its worker sees it: its rows and their counters, its checkpoints, the answers of the driver.

What a function trainable and a class trainable have in common. This module knows a `Channel` to the driver and the trial's
directory. It does not know what makes the rows, nor processes and sockets.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from holdfast import settings
from holdfast._core.commands import StartAttempt
from holdfast._core.events import AttemptEnded, CheckpointCommitted, Failure, ResultReported, Saved
from holdfast._worker.keeping import Keeper, Origin
from holdfast._worker.protocol import Answer, Channel
from holdfast._worker.rows import encode_row
from holdfast._worker.uploads import Uploads
from holdfast.checkpoint import Checkpoint, brought
from holdfast.clock import Clock, SystemClock
from holdfast.errors import ReportRefused, StorageError
from holdfast.session import TuneContext
from holdfast.trainable.tally import Tally, counters_in

__all__ = ["Attempt", "AttemptSession", "failure_of"]

_LARGEST_EXCEPTION = 256 * 1024
_LARGEST_TRACEBACK = 64 * 1024

Keep = Callable[[str, int, Mapping[str, float]], Saved]
"""`Keeper.save` or `Keeper.stage`."""


class Attempt:
    """Brings rows and checkpoints to the driver, one at a time; who calls it from several threads holds a lock.

    With `upload="async"` the checkpoint of a row is only staged before the row is sent. It becomes durable, and the driver is
    told, while the trial goes on; the attempt does not end before that.

    Attributes:
        order: What was ordered.
        context: Where the trial runs.
        storage_failure: Why a checkpoint could not be saved; empty while all were.
    """

    def __init__(
        self,
        order: StartAttempt,
        channel: Channel,
        context: TuneContext,
        keeper: Keeper,
        clock: Clock | None = None,
        upload: str = "sync",
        origin: Origin | None = None,
    ) -> None:
        self.order = order
        self.context = context
        self.storage_failure = ""
        self._channel = channel
        self._keeper = keeper
        self._clock = clock or SystemClock()
        self._since_restore = 0
        self._next_index = order.grant
        self._began = self._last = self._clock.monotonic()
        self._uploads = Uploads(keeper, self._tell) if upload == "async" else None
        self._origin = origin
        self._newest = origin.checkpoint if origin else None
        self._tally = Tally.of(counters_in(origin.folder)) if origin else Tally()

    @property
    def iteration(self) -> int:
        """The auto-filled `training_iteration` of the newest row, of the one resumed from where there is none yet."""
        return self.order.iteration + self._since_restore

    def begin(self) -> None:
        """The trial's clock starts now: what came before, such as setting up, is no part of its time."""
        self._began = self._last = self._clock.monotonic()

    def checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint reported, or the one that the attempt began from; waits until it has its name.

        Raises:
            StorageError: It could not be completed; `storage_failure` says why.
        """
        self._settle()
        return self._newest

    def ask(self, metrics: dict[str, Any], checkpoint: Checkpoint | None = None) -> Answer:
        """Saves the checkpoint, sends the row, and waits for the answer.

        Raises:
            ReportRefused: The row or the checkpoint cannot be taken; nothing was sent.
            StorageError: The checkpoint could not be saved; `storage_failure` says why. Nothing was sent.
        """
        tally = self._tally.plus(metrics) if isinstance(metrics, dict) else self._tally
        encoded = encode_row(metrics if tally is self._tally else tally.filled(metrics))
        done = bool(metrics.get("done"))
        counters = {"training_iteration": self.iteration + 1, **tally.counters()}
        if checkpoint is None or self._uploads is None:
            saved = None if checkpoint is None else self._keep(self._keeper.save, checkpoint, counters)
            self._tally = tally
            return self._channel.ask(self._row(encoded, done, saved))
        with self._storage():
            self._uploads.make_room()
        staged = self._keep(self._keeper.stage, checkpoint, counters)
        self._tally = tally
        row = self._row(encoded, done, None, staged)
        answer = self._channel.ask(row)
        self._uploads.add(row.number, staged)  # not before the row is on record, which is to say that it is pending
        return answer

    def commit(self, checkpoint: Checkpoint) -> None:
        """Saves a checkpoint of the newest row, which has been answered, and tells the driver; errors as in `ask`."""
        self._settle()  # checkpoints become known in their order
        counters = {"training_iteration": self.iteration, **self._tally.counters()}
        self._tell(self.order.number + self._since_restore, self._keep(self._keeper.save, checkpoint, counters))

    def ended(self, outcome: str, failure: Failure | None = None) -> AttemptEnded:
        """The end of the attempt as it is told to the driver; a checkpoint that could not be saved is a failure.

        Waits until no checkpoint is under way.
        """
        with contextlib.suppress(StorageError):  # the failure is said just below
            self._settle()
        if self.storage_failure:
            failure = Failure("storage", self.storage_failure)
        return AttemptEnded(self.order.trial_id, self.order.attempt, "failed" if failure else outcome, failure)

    def _row(self, encoded: bytes, done: bool, saved: Saved | None, staged: Saved | None = None) -> ResultReported:
        order, now = self.order, self._clock.monotonic()
        passed, self._last = now - self._last, now
        self._since_restore += 1
        return ResultReported(
            order.trial_id,
            order.attempt,
            order.number + self._since_restore,
            encoded,
            order.iteration + self._since_restore,
            passed,
            order.time_total_s + now - self._began,
            now - self._began,
            self._since_restore,
            self._clock.wall(),
            done,
            saved,
            pending=staged,
        )

    def _tell(self, number: int, saved: Saved) -> None:
        self._channel.tell(CheckpointCommitted(self.order.trial_id, self.order.attempt, number, saved))

    def _settle(self) -> None:
        """Waits until no checkpoint is under way."""
        if self._uploads is not None:
            with self._storage():
                self._uploads.finish()

    def _keep(self, how: Keep, checkpoint: Checkpoint, counters: Mapping[str, float]) -> Saved:
        """Keeps the checkpoint's files under the next index."""
        with self._storage(), self._folder_of(checkpoint) as folder:
            saved = how(folder, self._next_index, counters)
        self._next_index += 1
        self._newest = self._keeper.checkpoint(saved.index)
        return saved

    @contextlib.contextmanager
    def _folder_of(self, checkpoint: Checkpoint) -> Iterator[str]:
        """Its files on this machine: there already, or brought here from a cloud."""
        if self._origin is not None and checkpoint == self._origin.checkpoint:
            yield self._origin.folder
            return
        with contextlib.ExitStack() as held:
            try:
                folder = held.enter_context(brought(checkpoint, f"{self._keeper.staging}brought"))
            except FileNotFoundError as error:
                raise ReportRefused(
                    f"{checkpoint}: there is nothing at that place. Put the files there, then report it."
                ) from error
            yield folder

    @contextlib.contextmanager
    def _storage(self) -> Iterator[None]:
        """Remembers why the disk refused what is done inside."""
        try:
            yield
        except StorageError as error:
            self.storage_failure = str(error)
            raise


class AttemptSession:
    """What a trial's code may know of its attempt; how it reports is the kind of trainable's own."""

    def __init__(self, attempt: Attempt) -> None:
        self.context = attempt.context
        self._attempt = attempt

    @property
    def attempt(self) -> int:
        """The attempt's number."""
        return self._attempt.order.attempt

    @property
    def iteration(self) -> int:
        """The newest row's `training_iteration`."""
        return self._attempt.iteration


def failure_of(error: BaseException, *own: str) -> Failure:
    """An exception of the user's code as a failure; `own` are the files whose frames at the top are not the user's.

    Those stay in its traceback where `RAY_AIR_FULL_TRACEBACKS` asks for it. It is of the kind "oom" where Python found no
    memory, else "code".
    """
    import traceback

    trace = error.__traceback__ if settings.full_tracebacks() else _users_part(error, own)
    text = "".join(traceback.format_exception(type(error), error, trace))
    return Failure(
        kind="oom" if isinstance(error, MemoryError) else "code",
        message=f"{type(error).__name__}: {error}"[:1000],
        traceback=text[-_LARGEST_TRACEBACK:],
        exception=_pickled(error),
    )


def _users_part(error: BaseException, own: tuple[str, ...]) -> Any:
    """The traceback without the runner's own frames at its top."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename in own:
        trace = trace.tb_next
    return trace


def _pickled(error: BaseException) -> bytes:
    """The exception pickled, without its traceback; empty where it does not survive the journey."""
    import cloudpickle

    try:
        data: bytes = cloudpickle.dumps(error)
        cloudpickle.loads(data)
    except Exception:  # noqa: BLE001 - the border to the user's classes: pickling runs their code
        return b""
    return data if len(data) <= _LARGEST_EXCEPTION else b""
