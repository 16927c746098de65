"""The same job, given again: what a script that is run a second time says beside "resume".

Knows which parts of a job are its own and must be as submitted, and which are this run's (callbacks, what is printed, the
exit code).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from holdfast._assembly.submission import JobSpec, More
from holdfast.config import RunConfig, TuneConfig
from holdfast.errors import JobChanged

__all__ = ["given_again", "same_rule"]

_TUNE = ("metric", "mode", "num_samples", "max_concurrent_trials", "time_budget_s", "reuse_actors")
_RUN = ("failure_config", "checkpoint_config", "log_to_file")
_PLUGINS = ("search_alg", "scheduler")
_SPELT = {"begin_from": "restore", "export_formats": "export_formats"}


def given_again(stored: JobSpec, tune: TuneConfig, run: RunConfig, more: More) -> JobSpec:
    """The stored job with this run's callbacks and verbosity.

    What has its default value counts as not given.

    Raises:
        JobChanged: Something differs from what was submitted; names all of it.
    """
    changed = [*_changes(stored, tune, run)]
    for name in ("begin_from", "export_formats"):
        was, now = getattr(stored, name), getattr(more, name)
        if now and now != was:
            changed.append(f"{_SPELT[name]} was {was!r}, is {now!r}")
    if changed:
        raise JobChanged(
            f"Resuming completes the job that was submitted, and this one differs: {'; '.join(changed)}. Give the same "
            "arguments, ask for more by Tuner.extend(path, trainable, ...), or start another experiment under another name."
        )
    kept = stored.run_config.callbacks
    stored.run_config.verbose = run.verbose
    stored.run_config.exit_on_preemption = run.exit_on_preemption
    stored.run_config.callbacks = run.callbacks or kept
    stored.run_config.progress_reporter = run.progress_reporter or stored.run_config.progress_reporter
    return stored


def _changes(stored: JobSpec, tune: TuneConfig, run: RunConfig) -> Iterator[str]:
    usual_tune, usual_run = TuneConfig(), RunConfig()
    pairs = [(name, vars(usual_tune), vars(stored.tune_config), vars(tune)) for name in _TUNE]
    pairs += [(name, vars(usual_run), vars(stored.run_config), vars(run)) for name in _RUN]
    for name, usual, before, now in pairs:
        if now[name] not in (usual[name], before[name]):
            yield f"{name} was {before[name]!r}, is {now[name]!r}"
    for name in _PLUGINS:
        was, given = vars(stored.tune_config)[name], vars(tune)[name]
        if given is not None and type(given) is not type(was):
            yield f"{name} was {_kind(was)}, is {_kind(given)}"
    if run.stop is not None and not same_rule(stored.run_config.stop, run.stop):
        yield f"stop was {stored.run_config.stop!r}, is {run.stop!r}"
    kinds, given_kinds = [[_kind(one) for one in it] for it in (stored.run_config.callbacks, run.callbacks)]
    if given_kinds and given_kinds != kinds:
        yield f"callbacks were {kinds}, are {given_kinds}"


def same_rule(before: Any, now: Any) -> bool:
    """Whether a stop rule is the one that was submitted: equal where it is plain values, of one name where it is code."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        return dict(before) == dict(now)
    if isinstance(before, (list, tuple)) and isinstance(now, (list, tuple)):
        return [_kind(one) for one in before] == [_kind(one) for one in now]
    return _kind(before) == _kind(now)


def _kind(thing: Any) -> str:
    return str(getattr(thing, "__qualname__", None) or type(thing).__qualname__)
