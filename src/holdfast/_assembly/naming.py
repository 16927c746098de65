"""What a new trial is called: tag, directory, display name, with the user's own creators where given; and what it is given."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from holdfast import settings, values
from holdfast._core.events import ExperimentCreated
from holdfast._core.experiment import ExperimentState
from holdfast._core.trial import TrialState
from holdfast._runtime.searching import Names
from holdfast.config import TuneConfig
from holdfast.errors import ConfigError
from holdfast.resources import Request
from holdfast.search.naming import format_tag, safe_dirname
from holdfast.storage.definitions import Definitions
from holdfast.trial import Surroundings, Trial

__all__ = ["namer"]

_OURS = frozenset({"definitions", "journal", "logs", "requests"})  # the experiment's own directories


def namer(
    created: ExperimentCreated,
    state: ExperimentState,
    tune: TuneConfig,
    root: str,
    definitions: Definitions,
    request: Callable[[int, str, dict[str, Any]], Request | None] = lambda *_: None,
    references: Mapping[str, values.Reference] | None = None,
) -> Callable[[int, str, dict[str, Any], dict[str, Any]], Names]:
    """The function that names trials of the experiment at `root`, and says what each is given where that is its own."""

    def name(index: int, trial_id: str, config: dict[str, Any], evaluated: dict[str, Any]) -> Names:
        tag = format_tag(index, evaluated)
        shown = f"{created.trainable_name}_{trial_id}"
        date = time.strftime("%Y-%m-%d_%H-%M-%S")
        dirname = safe_dirname(shown, tag, date, longest)
        if tune.trial_name_creator or tune.trial_dirname_creator:
            trial = _new_trial(index, trial_id, Names(tag, dirname, shown), config, evaluated)
            if tune.trial_name_creator:
                shown = trial.name = str(tune.trial_name_creator(Trial(trial, around)))
            if tune.trial_dirname_creator:
                dirname = _unique(_checked(str(tune.trial_dirname_creator(Trial(trial, around)))), state)
        asked = request(index, trial_id, config)
        return Names(tag, dirname, shown) if asked is None else Names(tag, dirname, shown, *asked)

    def _new_trial(index: int, trial_id: str, names: Names, config: dict[str, Any], evaluated: dict[str, Any]) -> TrialState:
        return TrialState(
            trial_id=trial_id,
            index=index,
            name=names.name,
            dirname=names.dirname,
            tag=names.tag,
            config=values.encode(config, definitions.store),
            evaluated=values.encode(evaluated, definitions.store),
        )

    policy = created.policy
    longest = settings.longest_identifier()
    around = Surroundings(root, created.experiment_id, created.trainable_name, policy, definitions.load, lambda _: {}, references)
    return name


def _checked(dirname: str) -> str:
    if not dirname or "/" in dirname or dirname in (".", "..") or "\0" in dirname or len(dirname.encode()) > 255:
        raise ConfigError(f"trial_dirname_creator gave {dirname!r}: a name of one directory, without '/', at most 255 bytes.")
    return dirname


def _unique(dirname: str, state: ExperimentState) -> str:
    taken = _OURS | {trial.dirname for trial in state.trials.values()}
    number, free = 0, dirname
    while free in taken:
        number += 1
        free = f"{dirname}_{number}"
    return free
