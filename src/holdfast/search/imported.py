"""What was tried elsewhere: trials of an Optuna study or of a Ray Tune result directory, for a searcher to begin with.

    past = Past.read("past.json").within(space)
    OptunaSearch(points_to_evaluate=past.points, evaluated_rewards=past.values)      # learned from, not run
    HyperOptSearch(points_to_evaluate=past.best(5))                                  # the best run again, then new ones

Knows how those are kept, and reads only: nothing is unpickled, nothing is written to where they are. Refuses to know
searchers. A trial without a number for the metric is left out, and so is one that failed or was pruned.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from holdfast.errors import ConfigError
from holdfast.space import Domain
from holdfast.values import flatten

__all__ = ["Past"]

_SQLITE = "sqlite:///"


class Past(NamedTuple):
    """Trials from elsewhere.

    Attributes:
        metric, mode: What they were about; the metric is empty for an Optuna study, whose values have no name.
        points: Their configurations, keys flattened by "/".
        values: What each came to.
    """

    metric: str
    mode: str
    points: list[dict[str, Any]]
    values: list[float]

    @classmethod
    def of_optuna(cls, storage: str, study: str | None = None) -> Past:
        """The completed trials of a study with one objective.

        Args:
            storage: Optuna's URL, such as `sqlite:///study.db`, or the path of a journal file.
            study: Its name; needed where there are several.

        Raises:
            ConfigError: Optuna is missing, there is no such study, or it has several objectives.
        """
        try:
            import optuna
            from optuna.storages.journal import JournalFileBackend
            from sqlalchemy.exc import SQLAlchemyError
        except ImportError as error:
            raise ConfigError("Optuna is not installed: pip install 'holdfast[optuna]'.") from error
        file = storage.removeprefix(_SQLITE).partition("?")[0]
        if ("://" not in storage or storage.startswith(_SQLITE)) and not os.path.isfile(file):
            raise ConfigError(f"There is no file {file!r}: give a journal file of Optuna's, or a URL such as sqlite:///study.db.")
        try:
            if storage.startswith(_SQLITE):  # read only: Optuna would make its tables in a database that has none
                kept = f"{_SQLITE}file:{os.path.abspath(file)}?mode=ro&uri=true"
            else:
                kept = storage if "://" in storage else optuna.storages.JournalStorage(JournalFileBackend(storage))
            found = optuna.load_study(study_name=study, storage=kept)
        except (KeyError, ValueError, SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            why, _, _ = str(error).partition("\n")
            raise ConfigError(f"{storage} holds no such study: {why}") from error
        if len(found.directions) > 1:
            raise ConfigError(f"The study has {len(found.directions)} objectives; only studies with one can be read.")
        mode = "max" if found.direction == optuna.study.StudyDirection.MAXIMIZE else "min"
        done = found.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        return cls("", mode, [dict(trial.params) for trial in done], [float(trial.value) for trial in done])

    @classmethod
    def of_results(cls, directory: str, metric: str, mode: str = "min") -> Past:
        """The trials below a directory of results, Ray Tune's or ours: each one's `params.json`, and its newest row.

        Args:
            directory: The experiment's.
            metric: A key of the rows, flattened.
            mode: "min" or "max".

        Raises:
            ConfigError: There is no trial there that has the metric.
        """
        trials = list(_trials(directory, metric))
        if not trials:
            raise ConfigError(
                f"No trial directly below {directory!r} has a params.json and a number {metric!r} in its result.json."
            )
        return cls(metric, mode, [point for point, _ in trials], [value for _, value in trials])

    @classmethod
    def read(cls, path: str) -> Past:
        """What `write`, or `holdfast import`, wrote.

        Raises:
            ConfigError: It is something else.
        """
        with open(path, encoding="utf-8") as file:
            told = json.load(file)
        if not isinstance(told, dict) or not {"metric", "mode", "points", "values"} <= told.keys():
            raise ConfigError(f"{path!r} was not written by `holdfast import`.")
        return cls(told["metric"], told["mode"], told["points"], told["values"])

    def write(self, path: str) -> None:
        """Writes all of it as JSON into a new file; `FileExistsError` where one is there."""
        with open(path, "x", encoding="utf-8") as file:
            json.dump(self._asdict(), file, indent=1)

    def within(self, param_space: dict[str, Any]) -> Past:
        """Only the keys that are open in a space, and only trials whose values the space can give.

        A configuration of Ray Tune's holds constants as well, which a searcher refuses in a point.
        """
        domains = {key: domain for key, domain in flatten(param_space).items() if isinstance(domain, Domain)}
        kept = [
            ({key: value for key, value in point.items() if key in domains}, value)
            for point, value in zip(self.points, self.values, strict=True)
            if all(domains[key].is_valid(value) for key, value in point.items() if key in domains)
        ]
        return self._replace(points=[point for point, _ in kept], values=[value for _, value in kept])

    def best(self, count: int) -> list[dict[str, Any]]:
        """The configurations of the best trials, the best first."""
        order = sorted(range(len(self.values)), key=lambda n: self.values[n], reverse=self.mode == "max")
        return [self.points[n] for n in order[:count]]


def _trials(directory: str, metric: str) -> Iterator[tuple[dict[str, Any], float]]:
    for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else ():
        try:
            with open(os.path.join(directory, name, "params.json"), encoding="utf-8") as file:
                config = json.load(file)
            with open(os.path.join(directory, name, "result.json"), encoding="utf-8") as file:
                row = _last_row(file.read())
        except (FileNotFoundError, NotADirectoryError):
            continue
        value = flatten(row).get(metric)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value == value:
            yield flatten(config), float(value)


def _last_row(text: str) -> dict[str, Any]:
    """The newest whole row: a killed driver may have torn the last."""
    for line in reversed(text.splitlines()):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            return row
    return {}
