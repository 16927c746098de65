"""What the journal's tests share: an experiment's birth, owners, a clock that tests move, short ways to open and read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from holdfast._core.events import Event, ExperimentCreated, Record, Woke
from holdfast._core.policy import Policy
from holdfast._journal import Journal, Owner, create, open_journal, read
from holdfast.storage.base import Storage

EXPERIMENT = "0123456789abcdef" * 2


class Clock:
    """Time that passes only by sleeping; `on_sleep` is called each time."""

    def __init__(self, on_sleep: Callable[[], None] = lambda: None) -> None:
        self.now = 100.0
        self.on_sleep = on_sleep

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1.7e9 + self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.on_sleep()


def birth(experiment_id: str = EXPERIMENT) -> ExperimentCreated:
    return ExperimentCreated(
        experiment_id=experiment_id,
        name="experiment",
        trainable_name="train",
        trial_prefix="01234",
        seed=7,
        policy=Policy(),
        definitions={},
        space_keys=[],
        versions={},
        created_by="host:1:1",
    )


def owner(pid: int = 4242) -> Owner:
    """A process on a machine that is not this one."""
    return Owner(host="elsewhere", pid=pid, boot_id="another boot", pid_namespace=1, start_ticks=1)


def born(storage: Storage) -> Storage:
    assert create(storage, birth(), 1.0)
    return storage


def take(storage: Storage, **options: object) -> Journal:
    """Opens by takeover, without a thread."""
    options = {"owner": owner(), "clock": Clock(), "takeover": True, "threads": False, **options}
    return open_journal(storage, **options)


def note(text: object) -> Event:
    return Woke(order=str(text))


def put(journal: Journal, events: Sequence[Event], time: float = 0.0, wall: float = 0.0) -> list[Record]:
    """Puts events on record; when it returns they are written."""
    records = journal.stage(events, time, wall)
    journal.flush()
    return records


def add(journal: Journal, *texts: object) -> list[Record]:
    return put(journal, [note(text) for text in texts], time=1.0, wall=2.0)


def texts(storage: Storage) -> list[str]:
    """What `add` put on record, in order; each record is checked to stand in its place."""
    records = list(read(storage))
    assert [record.position for record in records] == list(range(len(records)))
    assert [record.epoch for record in records] == sorted(record.epoch for record in records)
    return [record.event.order for record in records if isinstance(record.event, Woke)]
