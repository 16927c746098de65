"""`holdfast diff A B`: what is not the same in two experiments, or in two trials. Reads the journal's projection only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
import msgspec

from holdfast._core.trial import TrialState
from holdfast._projection.rows import own_metrics
from holdfast._projection.table import Told, counts
from holdfast.cli import options
from holdfast.cli.places import driver_state, experiment_at, is_experiment, storage_at, told_at, trial_meant
from holdfast.cli.text import columns, echo, echo_json, shown
from holdfast.storage.opening import above
from holdfast.values import decode, flatten, plain

__all__ = ["diff"]

_MOST_LINES = 40

Difference = dict[str, tuple[Any, Any]]


@click.command("diff", short_help="Compare two experiments or two trials.")
@click.argument("a")
@click.argument("b")
@options.as_json
@click.pass_context
def diff(context: click.Context, a: str, b: str, as_json: bool) -> None:
    """Compare two experiments, or two trials: their jobs, configurations and results.

    A and B are the paths of experiments; a trial is EXPERIMENT/TRIAL, its id, number, name or directory behind the path. Only
    what differs is shown. The exit code is that of diff: 0 where nothing differs, 1 where something does.
    """
    (first, one), (second, other) = _meant(a), _meant(b)
    if (one is None) != (other is None):
        raise click.UsageError("A and B must both be experiments, or both trials (EXPERIMENT/TRIAL).")
    if one is None or other is None:
        parts = _of_experiments(first, second)
    else:
        parts = {"trial": _unequal(_trial(first, one), _trial(second, other))}
        parts["config"] = _unequal(_flat(one.config), _flat(other.config))
        parts["results"] = _unequal(_results(first, one), _results(second, other))
    differs = any(parts.values())
    if as_json:
        told = {part: {name: list(pair) for name, pair in found.items()} for part, found in parts.items()}
        echo_json({"a": a, "b": b, "differs": differs, **told})
    else:
        _show(a, b, parts)
    context.exit(1 if differs else 0)


def _meant(given: str) -> tuple[Told, TrialState | None]:
    """The experiment at a path; or the one that holds it, and the trial."""
    storage = storage_at(given)
    parent, name = above(storage.uri)
    if name and not is_experiment(storage) and is_experiment(around := storage_at(parent)):
        told = told_at(around)
        return told, trial_meant(told.state, name)
    return told_at(experiment_at(given)), None


def _of_experiments(first: Told, second: Told) -> dict[str, Difference]:
    parts = {"job": _unequal(_job(first), _job(second)), "experiment": _unequal(_whole(first), _whole(second))}
    ours, theirs = _by_config(first), _by_config(second)
    both = [config for config in ours if config in theirs]
    parts["configurations"] = _unequal(
        {"trials with one that the other has not": len(ours) - len(both)},
        {"trials with one that the other has not": len(theirs) - len(both)},
    )
    results: Difference = {}
    for config in both:
        one, other = ours[config], theirs[config]
        unequal = _unequal(_results(first, one), _results(second, other))
        results.update({f"{one.trial_id} | {other.trial_id}  {name}": pair for name, pair in unequal.items()})
    parts["results"] = results
    return parts


def _by_config(told: Told) -> dict[tuple[bytes, int], TrialState]:
    """The trials by their configuration; of those with the same one, the first goes with the other side's first."""
    found: dict[tuple[bytes, int], TrialState] = {}
    seen: dict[bytes, int] = {}
    for trial in told.state.trials.values():
        seen[trial.config] = seen.get(trial.config, 0) + 1
        found[trial.config, seen[trial.config]] = trial
    return found


def _job(told: Told) -> dict[str, Any]:
    created, state = told.state.created, told.state
    if created is None:
        return {}
    job: dict[str, Any] = {"trainable": created.trainable_name, "seed": created.seed, "space": ", ".join(created.space_keys)}
    job.update(msgspec.to_builtins(created.policy))
    job.update({f"versions/{name}": version for name, version in created.versions.items()})
    # A definition is compared by its content's hash: opening it would run the user's code.
    job.update({f"stored {name}": sha[:12] for name, sha in state.definitions.items()})
    return flatten(job)


def _whole(told: Told) -> dict[str, Any]:
    best = told.experiment()["best"]
    rows = sum(len(told.history.rows(trial_id)) for trial_id in told.state.trials)
    found: dict[str, Any] = {"state": driver_state(told.state), "rows": rows, **counts(told.state)}
    if best is not None:
        found[f"best {best['metric']}"] = best["value"]
        found.update({f"best config/{name}": value for name, value in flatten(best["config"]).items()})
    return found


def _trial(told: Told, trial: TrialState) -> dict[str, Any]:
    story = told.trial(trial.trial_id)
    return {
        "status": story["status"],
        "stopped by": story["stopped_by"] or None,
        "rows": len(story["rows"]),
        "attempts": len(story["attempts"]),
        "failures": story["failures"] + sum(story["spent"].values()),
        "checkpoints kept": len(story["checkpoints"]),
    }


def _flat(encoded: bytes) -> dict[str, Any]:
    return flatten(plain(decode(encoded)))


def _results(told: Told, trial: TrialState) -> dict[str, Any]:
    rows = told.history.rows(trial.trial_id)
    return flatten(plain(own_metrics(decode(rows[-1].metrics)))) if rows else {}


def _unequal(one: Mapping[str, Any], other: Mapping[str, Any]) -> Difference:
    """The keys that have not the same value in both; None stands for a key that is not there. NaN is equal to NaN."""
    names = [*one, *(name for name in other if name not in one)]
    pairs = {name: (one.get(name), other.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if repr(pair[0]) != repr(pair[1])}


def _show(a: str, b: str, parts: dict[str, Difference]) -> None:
    if not any(parts.values()):
        echo("no difference")
        return
    for part, found in parts.items():
        if not found:
            continue
        lines = [(name, shown(one), shown(other)) for name, (one, other) in found.items()]
        echo(columns((part, a, b), lines[:_MOST_LINES]))
        if len(lines) > _MOST_LINES:
            echo(f"... and {len(lines) - _MOST_LINES} more (--json shows all)")
        echo()
