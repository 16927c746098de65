"""What a new trial is called: tag, directory, display name, with the user's own creators where given."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from holdfast import settings, values
from holdfast._core.events import ExperimentCreated
from holdfast._core.experiment import ExperimentState
from holdfast._core.trial import TrialState
from holdfast._runtime.searching import Names
from holdfast.config import TuneConfig
from holdfast.errors import ConfigError
from holdfast.search.naming import format_tag, safe_dirname
from holdfast.trial import Load, Surroundings, Trial

__all__ = ["namer"]


def namer(
    created: ExperimentCreated, state: ExperimentState, tune: TuneConfig, load: Load
) -> Callable[[int, str, dict[str, Any], dict[str, Any]], Names]:
    """The function that names trials of this experiment."""

    def name(index: int, trial_id: str, config: dict[str, Any], evaluated: dict[str, Any]) -> Names:
        tag = format_tag(index, evaluated)
        shown = f"{created.trainable_name}_{trial_id}"
        date = time.strftime("%Y-%m-%d_%H-%M-%S")
        dirname = safe_dirname(shown, tag, date, settings.longest_identifier())
        if tune.trial_name_creator or tune.trial_dirname_creator:
            trial = _new_trial(index, trial_id, config, tag, shown, dirname)
            if tune.trial_name_creator:
                shown = trial.name = str(tune.trial_name_creator(Trial(trial, around)))
            if tune.trial_dirname_creator:
                dirname = _unique(_checked(str(tune.trial_dirname_creator(Trial(trial, around)))), state)
        return Names(tag, dirname, shown)

    def _new_trial(index: int, trial_id: str, config: dict[str, Any], tag: str, shown: str, dirname: str) -> TrialState:
        encoded = values.encode(config, lambda _: "")
        return TrialState(trial_id=trial_id, index=index, name=shown, dirname=dirname, tag=tag, config=encoded, evaluated=b"\x80")

    around = Surroundings("", created.experiment_id, created.trainable_name, created.policy.request, load, lambda _: {})
    return name


def _checked(dirname: str) -> str:
    if not dirname or "/" in dirname or dirname in (".", "..") or "\0" in dirname or len(dirname.encode()) > 255:
        raise ConfigError(f"trial_dirname_creator gave {dirname!r}: a name of one directory, without '/', at most 255 bytes.")
    return dirname


def _unique(dirname: str, state: ExperimentState) -> str:
    taken = {trial.dirname for trial in state.trials.values()}
    number, free = 0, dirname
    while free in taken:
        number += 1
        free = f"{dirname}_{number}"
    return free
