"""The port of searchers: who suggests configurations.

This module knows what a searcher is asked and told. It refuses to know of trials, journals and drivers: a searcher gets ids and
dictionaries and returns dictionaries.
"""

from __future__ import annotations

import inspect
import os
import pickle
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from holdfast.errors import ConfigError, ExperimentNotFound

__all__ = ["Metric", "SearchAlgorithm", "Searcher", "introduce", "memory_of", "remind"]

Metric = str | list[str] | None


class SearchAlgorithm:
    """Marks what may stand in `TuneConfig(search_alg=...)`."""


class Searcher(SearchAlgorithm):
    """Base of all searchers: override `suggest`, and `on_trial_complete` to learn.

    The calls of one experiment come one after another, in an order that is on record. After a crash a searcher is
    restored from `get_state` (or its pickle), told again what it had been told since, and asked again what it had been
    asked; the answers should be the same. Where one is not, the recorded answer stands and `adopt` hands it over.

    Attributes:
        FINISHED: What `suggest` returns when nothing more will come.
        CKPT_FILE_TMPL: The file name of `save_to_dir`.
        instant: True if `suggest` answers without thinking, so that it may be asked on the driver's loop.
        own_chance: True if all its chance comes from its own generator. Otherwise `random` and `numpy.random` are set
            around each call.
        by_number: True if its n-th answer depends on nothing but n. It must then have a method `skip()`, which passes over one
            answer, because that is on record, as if it had been given.
        own_seed: The seed that its user gave it, None where there is none. A job without `TuneConfig(seed=...)` takes its seed
            from it, so that a seeded searcher makes the whole experiment repeatable: the scheduler and the trials too.

    Args:
        metric: What is optimized, or several such.
        mode: "min" or "max", one for each metric.
    """

    FINISHED = "FINISHED"
    CKPT_FILE_TMPL = "searcher-state-{}.pkl"
    instant = False
    own_chance = False
    by_number: bool = False
    own_seed: int | None = None

    def __init__(self, metric: Metric = None, mode: Metric = None) -> None:
        self._metric = metric
        self._mode = mode
        if metric and mode:
            _check_objective(metric, mode)

    @property
    def metric(self) -> Metric:
        """What is optimized."""
        return self._metric

    @property
    def mode(self) -> Metric:
        """Whether the metric is to be small ("min") or large ("max")."""
        return self._mode

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Gives the searcher what the experiment is about, before the first `suggest`.

        Args:
            metric: From `TuneConfig`.
            mode: From `TuneConfig`.
            config: The `param_space`.
            **spec: More that a searcher may want: `num_samples`, and `seed`, the experiment's recorded seed.

        Returns:
            Whether it was taken; False says that the searcher has its own already, which is the user's error.
        """
        return False

    def extend(self, num_samples: int, space: dict[str, Any] | None) -> bool:
        """Hears that the job asks for more: it may be asked again although it had finished.

        Args:
            num_samples: How many samples more; 0 where only other things changed.
            space: The `param_space` that new samples are to come from; None where it stays.

        Returns:
            Whether it can. False refuses the extension before anything is written.
        """
        return space is None

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next configuration; `FINISHED` when there will be none; None when there is none for now."""
        raise NotImplementedError(f"{type(self).__name__} must define suggest(trial_id)")

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Hears a row. It may lack the metric, or hold NaN."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Hears that a trial ended, with its last row (None if it has none) and whether it failed."""
        raise NotImplementedError(f"{type(self).__name__} must define on_trial_complete(trial_id, result, error)")

    def adopt(self, trial_id: str, config: dict[str, Any]) -> None:
        """Takes a recorded configuration as the searcher's own answer, in place of the one that it gave when asked again."""

    def add_evaluated_point(
        self,
        parameters: dict[str, Any],
        value: float,
        error: bool = False,
        pruned: bool = False,
        intermediate_values: list[float] | None = None,
    ) -> None:
        """Learns from a configuration that was tried elsewhere."""
        raise NotImplementedError(f"{type(self).__name__} cannot learn from points of elsewhere")

    def add_evaluated_trials(self, trials_or_analysis: Any, metric: str) -> None:
        """Learns from trials of another experiment: one trial, a list, or anything with `trials`."""
        trials = getattr(trials_or_analysis, "trials", trials_or_analysis)
        for trial in trials if isinstance(trials, (list, tuple)) else [trials]:
            if metric in trial.last_result:
                ended = trial.status == "TERMINATED"
                done = bool(trial.last_result.get("done", False))
                self.add_evaluated_point(
                    trial.config, trial.last_result[metric], error=trial.status == "ERROR", pruned=ended and not done
                )

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Offers a bound of concurrent trials; True says that the searcher keeps it by itself."""
        return False

    def get_state(self) -> dict[str, Any]:
        """All that the searcher remembers; it must pickle."""
        raise NotImplementedError(f"{type(self).__name__} does not define get_state()")

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes what `get_state` gave."""
        raise NotImplementedError(f"{type(self).__name__} does not define set_state(state)")

    def save(self, checkpoint_path: str) -> None:
        """Writes `get_state()` to a file."""
        with open(checkpoint_path, "wb") as file:
            pickle.dump(self.get_state(), file)

    def restore(self, checkpoint_path: str) -> None:
        """Takes the state from a file that `save` wrote. It is unpickled: give only files that you trust."""
        with open(checkpoint_path, "rb") as file:
            self.set_state(pickle.load(file))

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Saves into a directory; the file is there whole or not at all."""
        path = Path(checkpoint_dir, self.CKPT_FILE_TMPL.format(session_str))
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            self.save(str(aside))
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)

    def restore_from_dir(self, checkpoint_dir: str) -> None:
        """Restores from the newest file that `save_to_dir` wrote into a directory; from an experiment's by its URI too."""
        pattern = self.CKPT_FILE_TMPL.format("*")
        if "://" in checkpoint_dir:
            _restore_from_store(self, checkpoint_dir, pattern)
            return
        found = sorted(Path(checkpoint_dir).glob(pattern), key=lambda path: (path.stat().st_mtime_ns, path))
        if not found:
            raise ExperimentNotFound(f"{checkpoint_dir} holds no searcher state ({pattern}).")
        self.restore(str(found[-1]))


def _restore_from_store(searcher: Searcher, uri: str, pattern: str) -> None:
    import tempfile

    from holdfast.storage.opening import open_storage

    storage = open_storage(uri)
    found = [name for name in storage.names("") if fnmatch(name, pattern)]
    if not found:
        raise ExperimentNotFound(f"{storage.root} holds no searcher state ({pattern}).")
    if len(found) > 1:  # nothing says which is the newest
        raise ConfigError(f"{storage.root} holds several states of searchers: {found}. Fetch one, and give it to restore().")
    with tempfile.TemporaryDirectory(prefix="holdfast-searcher-") as aside:
        path = Path(aside, found[0])
        path.write_bytes(storage.read(found[0]))
        searcher.restore(str(path))


def introduce(searcher: Searcher, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
    """Calls `set_search_properties`, with those of `spec` that the searcher takes: many a user's own takes none.

    Returns:
        Whether the searcher took it.
    """
    taken = inspect.signature(searcher.set_search_properties).parameters.values()
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken):
        names = {parameter.name for parameter in taken}
        spec = {name: value for name, value in spec.items() if name in names}
    return searcher.set_search_properties(metric, mode, config, **spec)


def memory_of(searcher: Searcher) -> dict[str, Any]:
    """What a searcher remembers, by its `get_state`; of one that has no such method, what its own `save` writes.

    Raises:
        NotImplementedError: It has neither.
    """
    own = type(searcher)
    if own.get_state is not Searcher.get_state or own.save is Searcher.save:
        return {"state": searcher.get_state()}
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "state")
        searcher.save(str(path))
        return {"file": path.read_bytes()}


def remind(searcher: Searcher, memory: dict[str, Any]) -> None:
    """Gives a searcher what `memory_of` took from one of its kind."""
    if "state" in memory:
        searcher.set_state(memory["state"])
        return
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "state")
        path.write_bytes(memory["file"])
        searcher.restore(str(path))


def _check_objective(metric: Metric, mode: Metric) -> None:
    metrics = metric if isinstance(metric, list) else [metric]
    modes = mode if isinstance(mode, list) else [mode]
    if isinstance(metric, list) != isinstance(mode, list) or len(metrics) != len(modes):
        raise ConfigError(f"metric={metric!r} and mode={mode!r} do not fit together: give one mode for each metric.")
    allowed = ("min", "max", "obs") if isinstance(mode, list) else ("min", "max")
    if any(one not in allowed for one in modes):
        raise ConfigError(f"mode must be 'min' or 'max', not {mode!r}.")
