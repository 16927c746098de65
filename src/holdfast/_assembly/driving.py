"""Driving: one epoch of an experiment, from the claim to the end, with the adapters that its job names."""

from __future__ import annotations

import gc
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from holdfast import settings
from holdfast._assembly.followers import files_of, screen_of
from holdfast._assembly.naming import namer
from holdfast._assembly.plugging import constants_of, job_at, plugins_of, renewal, stop_rules
from holdfast._assembly.requests import Grants, ask_per_trial, check_recorded, grants
from holdfast._assembly.searching import keep_memory
from holdfast._assembly.submission import JobSpec, versions
from holdfast._assembly.tracking import others_than_trackers, trackers_of
from holdfast._assembly.waiting import WaitingFollower
from holdfast._assembly.working import Working, artifacts_s, log_files, working_of
from holdfast._core.controller import Controller
from holdfast._core.events import EpochStarted, ExperimentCreated
from holdfast._core.experiment import ExperimentState
from holdfast._core.policy import Resume
from holdfast._journal import Journal, Owner, open_journal
from holdfast._runtime import snapshots
from holdfast._runtime.advice import Advice, Plugins
from holdfast._runtime.callbacks import CallbackDesk
from holdfast._runtime.extending import Extension
from holdfast._runtime.loop import Driver, Follower, Parts
from holdfast._runtime.recovery import replay, take_over
from holdfast._runtime.roll import Roll
from holdfast._runtime.searching import SearcherDesk
from holdfast._runtime.signals import Signals
from holdfast._runtime.view import ControllerView
from holdfast.clock import Clock, SystemClock
from holdfast.engines.base import Engine, Job
from holdfast.errors import ConfigError, Fenced, InternalError, StorageError, TuneError
from holdfast.foreign import ClusterRef
from holdfast.objects import references_in, supplying
from holdfast.resources import Request
from holdfast.search.base import Searcher
from holdfast.storage.base import Storage
from holdfast.storage.definitions import Definitions
from holdfast.storage.local import LocalStorage
from holdfast.storage.posix import PosixStorage
from holdfast.storage.uri import is_uri, keys_for_workers

__all__ = ["Choices", "Minds", "Outcome", "drive", "minds"]


class Choices(NamedTuple):
    """What one run of a driver may choose, beside the job.

    Attributes:
        resume: What happens to the trials found.
        trainable: The pickled trainable to run.
        definitions: Definitions that differ from the birth record's.
        engine: The engine to run on.
        takeover: Whether to take the experiment from a driver that seems to live.
        snapshot_due: When snapshots are taken, if not by default.
        extension: What the job is to be extended by.
    """

    resume: Resume
    trainable: bytes
    definitions: dict[str, str]
    engine: Engine
    takeover: bool = False
    snapshot_due: Callable[[int, int, int], bool] | None = None
    extension: Extension | None = None


class Minds(NamedTuple):
    """What thinks in an experiment: brought to the same position by replaying the same records."""

    controller: Controller
    advice: Advice
    callbacks: CallbackDesk


class Outcome(NamedTuple):
    """How an epoch ended: its reason, the signal that ended it or 0, and the fold of the whole journal."""

    reason: str
    signal: int
    state: ExperimentState


def drive(storage: Storage, created: ExperimentCreated, spec: JobSpec, choices: Choices) -> Outcome:
    """Runs one epoch.

    Returns:
        Outcome: "finished", "fail_fast", "failures" or "interrupted".

    Raises:
        ExperimentBusy: Another driver is at work.
        Fenced: Another driver took over meanwhile.
        JournalError: The journal is damaged.
        StorageError: The disk refuses.
        Exception: What a plug-in or callback raised. The experiment can be restored after each of these.
    """
    engine = choices.engine
    fit_to = getattr(engine, "fit_to", None)
    if fit_to is not None and spec.ask is None:  # an engine that runs one trial at a time has whatever that one asks for
        fit_to(created.policy.request)
    granted = grants(engine)
    granted(Request(created.policy.request, created.policy.placement), "One trial")
    _refuse_clusters_references(spec, engine)
    given = plugins_of(created, spec)  # refuses what cannot be before anything is claimed
    clock: Clock = getattr(engine, "clock", None) or SystemClock()
    real = isinstance(clock, SystemClock)
    with Signals() as signals, supplying(references_in(spec.param_space)):
        signals.tell(engine.wake)
        journal = open_journal(
            storage,
            owner=Owner.of_this_process(),
            clock=clock,
            takeover=choices.takeover,
            threads=real,
            unfenced=spec.run_config.unfenced,
        )
        try:
            return _with_journal(journal, _Epoch(storage, created, spec, choices, given), signals)
        except (Fenced, StorageError):
            journal.close(seal=False)
            raise
        finally:
            journal.close()


def _refuse_clusters_references(spec: JobSpec, engine: Engine) -> None:
    places = [place for place, it in references_in(spec.param_space).items() if isinstance(it, ClusterRef)]
    if places and engine.name != "ray":
        raise ConfigError(
            f"param_space has references of Ray's store, or datasets, at {places}, which the engine {engine.name!r} cannot bring "
            "to trials. Run it on Ray: RunConfig(engine='ray'), or use holdfast.put in their place."
        )


class _Epoch(NamedTuple):
    """What one run of a driver is about."""

    storage: Storage
    created: ExperimentCreated
    spec: JobSpec
    choices: Choices
    given: tuple[Plugins, Searcher]


def _with_journal(journal: Journal, epoch: _Epoch, signals: Signals) -> Outcome:
    storage, created, spec, choices, _ = epoch
    engine = choices.engine
    if journal.previous is not None:  # also one that closed: behind it may lie one that did not, and a `repair` between them
        if not journal.in_charge():  # it was stopped on its way here: what lies there, and runs, is the next driver's by now
            raise Fenced(storage.root, journal.epoch)
        _end_leftovers(_tokens(created, storage), journal.epoch)
        if isinstance(storage, PosixStorage):
            storage.sweep_all()
    working = working_of(journal, created.experiment_id, spec)
    driver: Driver | None = None
    try:
        engine.open(_job(epoch, journal.epoch, working.attempts))
        driver = _assembled(journal, epoch, working)
        take_over(driver, _epoch_started(journal, choices), storage, list(journal.cuts), choices.extension)
        try:
            driver.run(*_leaving(engine, signals, quiet=not spec.run_config.verbose))
        finally:
            engine.close()
        interrupted = signals.caught and not driver.ending
        reason = "interrupted" if interrupted else driver.ending
        driver.finish(reason, f"signal {signals.caught}" if interrupted else "")
        if spec.tune_config.search_alg is not None:
            driver.parts.advice.desk.close()
            keep_memory(driver.parts.advice.desk.searcher, storage)
        return Outcome(reason, signals.caught if interrupted else 0, driver.state)
    except (Fenced, StorageError, InternalError):
        working.abandon()
        raise
    except BaseException as error:
        engine.close()
        if isinstance(error, OSError) and not journal.in_charge():  # its directories are the next driver's by now
            working.abandon()
            raise Fenced(storage.root, journal.epoch) from error
        with suppress(Exception):  # the first error is the one to raise; recovery does without this record
            if driver is not None:
                driver.finish("error", f"{type(error).__name__}: {error}"[:500])
        raise
    finally:
        engine.close()
        if driver is not None:
            driver.close()
            driver.parts.advice.desk.close()
        for follower in driver.parts.followers if driver else ():
            with suppress(TuneError):  # a disk that refuses has said so already, or the journal has it all
                follower.close()


def _leaving(engine: Engine, signals: Signals, *, quiet: bool) -> tuple[Callable[[], int], float]:
    """What `Driver.run` asks for: how often somebody has asked for the end, and how long trials may take to leave."""
    # A trial in this very process is unwound by the signal itself, wherever it is: there is nothing to wait for.
    grace_s = 0.0 if hasattr(engine, "attend") else settings.grace_s()
    hurry: Callable[[], None] = getattr(engine, "hurry", lambda: None)
    said = False

    def asked() -> int:
        nonlocal said
        if signals.count and not said:
            said = True
            hurry()
            if grace_s and not quiet:
                print(  # noqa: T201 - who has pressed Ctrl+C wants to know what is waited for
                    f"holdfast: signal {signals.caught}: trials leave with their next row, within {grace_s:g} s; "
                    "another signal ends them at once.",
                    file=sys.stderr,
                )
        return signals.count

    return asked, grace_s


def minds(
    storage: Storage,
    created: ExperimentCreated,
    spec: JobSpec,
    given: tuple[Plugins, Searcher],
    cut: snapshots.Cut | None = None,
    granted: Grants | None = None,
    *,
    thorough: bool = True,
) -> Minds:
    """Controller, plug-ins and callbacks as at a snapshot, or (with the `given` plug-ins) as at the very beginning.

    `thorough` has a replay think each recorded answer again, also where the same code can only repeat it.
    """
    plugins, searcher = given
    controller = Controller()
    definitions = Definitions(storage)
    if cut is not None:
        controller = cut.controller
        scheduler, stopper, searcher = cut.plugins
        criteria = plugins.criteria
        if controller.state.extensions:
            extended = job_at(definitions, controller.state.definitions["job"])
            spec, criteria = spec._replace(param_space=extended.param_space), stop_rules(extended.run_config.stop)[1]
        plugins = plugins._replace(scheduler=scheduler, stopper=stopper, criteria=criteria)
    state = controller.state
    request = ask_per_trial(spec.ask, created.seed, granted)
    references = references_in(spec.param_space)
    roll = Roll(created, state, storage.uri, definitions.load, references)
    desk = SearcherDesk(
        searcher,
        created.seed,
        created.trial_prefix,
        constants_of(searcher, spec.param_space),
        namer(created, state, spec.tune_config, storage.uri, definitions, request, references),
        definitions,
    )
    callbacks = CallbackDesk(others_than_trackers(spec.run_config.callbacks), state, roll, definitions.store)
    callbacks.setup(spec.run_config.stop, created.policy.num_samples)
    callbacks.remind(cut.memories if cut else {}, cut.position if cut else -1)
    if cut is not None:
        desk.calls = cut.searcher_calls
    view = ControllerView(roll, controller, desk, definitions.store)
    plugins = plugins._replace(renewed=renewal(definitions, searcher))
    advice = Advice(plugins, desk, state, roll, view, created.seed, None if thorough else versions())
    return Minds(controller, advice, callbacks)


def _assembled(journal: Journal, epoch: _Epoch, working: Working) -> Driver:
    """Builds the driver and brings it to the journal's end."""
    storage, created, spec, choices, given = epoch
    definitions = Definitions(storage)
    cut = snapshots.load(journal, lambda job: plugins_of(created, job_at(definitions, job))[1])
    granted = grants(choices.engine)
    controller, advice, callbacks = minds(storage, created, spec, given, cut, granted, thorough=False)
    advice.roll.work_in(working.files)
    position = cut.position if cut else -1
    files = files_of(journal, (created, spec), controller.state, definitions.load, working, from_start=cut is None)
    with _collector_at_rest():
        replay(journal.older(position), controller, advice, callbacks, files.replayed if files else None)
    working.bring(storage, controller.state, callbacks.callbacks)
    check_recorded(controller.state, choices.resume, granted)
    total = choices.extension.event.num_samples if choices.extension else controller.state.policy.num_samples
    roll = Roll(created, controller.state, storage.uri, definitions.load, references_in(spec.param_space))
    screen = screen_of(spec, controller.state, total, roll, advice.plugins.scheduler)
    placing = getattr(choices.engine, "why_waiting", None)
    told = {} if placing is None else {"placing": placing}
    waiting = WaitingFollower(controller, **told) if spec.run_config.verbose else None
    trackers = trackers_of(journal, created, spec)
    followers: list[Follower] = [follower for follower in (files, screen, waiting, trackers) if follower is not None]
    taken = snapshots.Snapshots(choices.snapshot_due, position)
    clock: Clock = getattr(choices.engine, "clock", None) or SystemClock()
    strict = spec.run_config.durability == "strict"
    staged = None if working.mirror is None else LocalStorage(working.attempts)
    parts = Parts(journal, controller, choices.engine, advice, callbacks, followers, taken, storage, clock, strict, staged)
    return Driver(parts, controller.state.time)


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Replay makes many objects that stay and hardly any garbage, which the collector would look through again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _job(epoch: _Epoch, number: int, directory: str) -> Job:
    import cloudpickle

    storage, created, spec, choices, _ = epoch
    here = os.getcwd()
    return Job(
        experiment_dir=directory,
        storage=storage.uri,
        storage_timeout_s=spec.run_config.storage_timeout_s,
        experiment_name=created.name,
        trainable=choices.trainable,
        seed=created.seed,
        token=f"{_tokens(created, storage)}{number}",
        environment={**settings.environment(), **keys_for_workers()},
        sys_path=[os.path.abspath(entry) for entry in sys.path],
        working_dir=here,
        chdir=settings.chdir_to_trial_dir(),
        log_to_file=log_files(spec),
        artifacts_s=artifacts_s(spec),
        echo=spec.run_config.verbose > 0,
        reuse_workers=created.policy.reuse_workers,
        references={place: cloudpickle.dumps(it) for place, it in references_in(spec.param_space).items()},
        upload=spec.run_config.checkpoint_config.upload,
        class_trainable=created.policy.cleans_up,
        checkpoint_frequency=spec.run_config.checkpoint_config.checkpoint_frequency,
        checkpoint_at_end=created.policy.end_checkpoint,
        begin_from=spec.begin_from,
        export_formats=spec.export_formats,
        grace_s=settings.cleanup_s(),
    )


def _epoch_started(journal: Journal, choices: Choices) -> EpochStarted:
    owner = Owner.of_this_process()
    return EpochStarted(
        epoch=journal.epoch,
        resources=choices.engine.resources(),
        resume=choices.resume,
        engine=choices.engine.name,
        host=owner.host,
        pid=owner.pid,
        boot_id=owner.boot_id,
        start_ticks=owner.start_ticks,
        versions=versions(),
        definitions=choices.definitions,
    )


def _tokens(created: ExperimentCreated, storage: Storage) -> str:
    """What the tokens of all epochs begin with: id and place, for a copy has the same id, and may be at work on this machine."""
    place = storage.uri if is_uri(storage.uri) else os.path.realpath(storage.uri)
    return f"{created.experiment_id}.{hashlib.blake2b(place.encode(), digest_size=4).hexdigest()}."


def _end_leftovers(tokens: str, epoch: int) -> None:
    """Ends what older drivers of this experiment left running on this machine."""
    from holdfast.engines.local import end_leftovers

    end_leftovers(tokens, epoch)
