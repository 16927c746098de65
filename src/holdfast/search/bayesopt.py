"""`BayesOptSearch`: Gaussian processes by the library bayesian-optimization.

The library keeps nothing between two suggestions: for each one it is given all that is known, and a seed made of the
suggestion's number. So this module remembers two lists of numbers, and nothing of the library's. Trials that still run count
with the mean of what is known ("constant liar", Ginsbourger et al., "Kriging Is Well-Suited to Parallelize Optimization", 2010),
so that those who ask at the same time are not sent to the same place.

It knows both shapes of the library: from 3.0 on, and 1.4, which Nevergrad pins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.errors import ConfigError, SearchSpaceError
from holdfast.search.asking import Asked, AskingSearcher
from holdfast.search.libraries import load
from holdfast.search.spaces import Leaf, SearchSpace, seed_of
from holdfast.space import uniform

__all__ = ["BayesOptSearch"]

_KINDS = {"ucb": "UpperConfidenceBound", "ei": "ExpectedImprovement", "poi": "ProbabilityOfImprovement"}


class BayesOptSearch(AskingSearcher):
    """Searches by a Gaussian process and an acquisition function; `holdfast[bayesopt]`.

    All is searched as places in [0, 1], logarithmic domains on their scale; a choice has one axis for each category, and the
    one that reaches farthest is chosen.

    Args:
        space: A `param_space`, or name → (low, high) for real numbers; None for the experiment's.
        metric: What is optimized; `TuneConfig(metric=...)` may say it instead.
        mode: "min" or "max".
        points_to_evaluate: Configurations that are suggested first.
        utility_kwargs: The acquisition function: `kind` "ucb" (with `kappa`), "ei" or "poi" (with `xi`). Default: "ucb", 2.576.
            Give "poi" an `xi` above 0: with 0 it stays where it found something, and the patience soon ends.
        random_state: Of all chance; None: the experiment's seed. The default is Ray Tune's.
        random_search_steps: How many trials must have ended before the model has its say; until then suggestions are random.
        verbose: Without effect: the library reports to nobody.
        patience: How often one configuration may be suggested again before the search is finished.
        skip_duplicate: Whether another one is asked for in place of a configuration that was suggested before.
        analysis: An `ExperimentAnalysis` (or trials) of elsewhere to learn from at the beginning.
        repeat_float_precision: In how many decimals places in [0, 1] must agree to be the same.

    Raises:
        ConfigError: The library is not installed, or an argument that cannot be.
    """

    def __init__(
        self,
        space: dict[str, Any] | None = None,
        metric: str | None = None,
        mode: str | None = None,
        points_to_evaluate: Sequence[dict[str, Any]] | None = None,
        utility_kwargs: dict[str, Any] | None = None,
        random_state: int | None = 42,
        random_search_steps: int = 10,
        verbose: int = 0,
        patience: int = 5,
        skip_duplicate: bool = True,
        analysis: Any = None,
        repeat_float_precision: int = 5,
    ) -> None:
        super().__init__(space, metric, mode, points_to_evaluate)
        load("bayes_opt", "bayesopt", "BayesOptSearch")
        utility = {"kind": "ucb", "kappa": 2.576, "xi": 0.0, **(utility_kwargs or {})}
        if utility["kind"] not in _KINDS or set(utility) != {"kind", "kappa", "xi"}:
            raise ConfigError(
                f"BayesOptSearch(utility_kwargs={utility_kwargs!r}): kind is one of {sorted(_KINDS)}, beside kappa and xi."
            )
        if patience < 1:
            raise ConfigError(f"BayesOptSearch(patience={patience!r}): 1 or more.")
        self._utility = utility
        self._random_state = random_state
        self._steps = random_search_steps
        self._patience = patience
        self._skip = skip_duplicate
        self._analysis = analysis
        self._precision = repeat_float_precision
        self._axes = _Axes(())
        self._chance = 0
        self._asked = 0
        self._ended = 0
        self._known: list[tuple[list[float], float]] = []  # places and losses
        self._waiting: dict[int, list[float]] = {}  # by the number of the suggestion
        self._seen: dict[tuple[float, ...], int] = {}

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        taken = super().set_search_properties(metric, mode, config, **spec)
        analysis, self._analysis = self._analysis, None
        if taken and analysis is not None:
            self.add_evaluated_trials(analysis, str(self._metric))
        return taken

    def begin(self, leaves: tuple[Leaf, ...], seed: int) -> None:
        self._chance = seed if self._random_state is None else self._random_state
        self._axes = _Axes(leaves)

    def native(self, space: Any) -> SearchSpace:
        if not isinstance(space, dict) or not all(isinstance(it, (tuple, list)) and len(it) == 2 for it in space.values()):
            raise SearchSpaceError(f"BayesOptSearch(space=...) takes a param_space or name → (low, high), not {space!r:.200}.")
        made = self._open({name: uniform(*bounds) for name, bounds in space.items()})
        self.begin(made.leaves, self._seed)
        return made

    def ask(self, fixed: Mapping[str, Any]) -> Asked | str | None:
        whole = all(leaf.name in fixed for leaf in self._axes.leaves)  # such a point needs no model
        if whole or self._ended < self._steps or not self._known:
            places = self._random_places()
        else:
            suggested = self._suggested()
            if suggested is None:
                return self.FINISHED
            places = suggested
        values = {**self._axes.values(places), **fixed}
        return Asked(self._wait(self._axes.places(values) if fixed else places), values)

    def put(self, values: Mapping[str, Any]) -> Any:
        return self._wait(self._axes.places(values))

    def tell(self, handle: Any, loss: float, result: Mapping[str, Any]) -> None:
        self._known.append((self._waiting.pop(handle), loss))
        self._ended += 1

    def fail(self, handle: Any) -> None:
        del self._waiting[handle]
        self._ended += 1

    def _wait(self, places: list[float]) -> int:
        number = self._asked
        self._asked += 1
        self._waiting[number] = places
        key = self._key(places)
        self._seen[key] = self._seen.get(key, 0)
        return number

    def _key(self, places: list[float]) -> tuple[float, ...]:
        return tuple(round(place, self._precision) for place in places)

    def _generator(self, what: str) -> Any:
        import numpy as np

        return np.random.RandomState(seed_of(self._chance, what) % 2**32)

    def _random_places(self) -> list[float]:
        draws = self._generator(f"random/{self._asked}").uniform(size=len(self._axes))
        return [float(draw) for draw in draws]

    def _suggested(self) -> list[float] | None:
        """The model's next place; None when its patience is at its end."""
        for attempt in range(self._patience + 1):
            places = self._of_model(self._generator(f"model/{self._asked}/{attempt}"))
            key = self._key(places)
            if key not in self._seen:
                return places
            self._seen[key] += 1
            if self._seen[key] > self._patience:
                return None
            if not self._skip:
                return places
        return None

    def _of_model(self, generator: Any) -> list[float]:
        import bayes_opt

        names = [f"{axis:06d}" for axis in range(len(self._axes))]
        arguments = {"f": None, "pbounds": dict.fromkeys(names, (0.0, 1.0)), "random_state": generator, "verbose": 0}
        arguments["allow_duplicate_points"] = True
        if hasattr(bayes_opt, "UtilityFunction"):  # before 2.0
            optimizer = bayes_opt.BayesianOptimization(**arguments)
            self._register(optimizer, names)
            found = optimizer.suggest(bayes_opt.UtilityFunction(**self._utility))
        else:
            from bayes_opt import acquisition

            kind = self._utility["kind"]
            needed = {"kappa": self._utility["kappa"]} if kind == "ucb" else {"xi": self._utility["xi"]}
            function = getattr(acquisition, _KINDS[kind])(**needed)
            optimizer = bayes_opt.BayesianOptimization(**arguments, acquisition_function=function)
            self._register(optimizer, names)
            found = optimizer.suggest()
        return [min(max(float(found[name]), 0.0), 1.0) for name in names]

    def _register(self, optimizer: Any, names: list[str]) -> None:
        lie = sum(loss for _, loss in self._known) / len(self._known)
        for places, loss in [*self._known, *((places, lie) for places in self._waiting.values())]:
            optimizer.register(params=dict(zip(names, places, strict=True)), target=-loss)


class _Axes:
    """The axes of a search: one for each number, and one for each category of a choice.

    Args:
        leaves: What is searched.
    """

    def __init__(self, leaves: tuple[Leaf, ...]) -> None:
        self.leaves = leaves
        self._counts = [int(leaf.high) + 1 if leaf.kind == "choice" else 1 for leaf in leaves]

    def __len__(self) -> int:
        return sum(self._counts)

    def values(self, places: Sequence[float]) -> dict[str, Any]:
        """Leaf name → value at these places; of a choice the category whose axis reaches farthest."""
        values: dict[str, Any] = {}
        at = 0
        for leaf, count in zip(self.leaves, self._counts, strict=True):
            own = places[at : at + count]
            values[leaf.name] = own.index(max(own)) if leaf.kind == "choice" else leaf.at(own[0])
            at += count
        return values

    def places(self, values: Mapping[str, Any]) -> list[float]:
        """The way back; a leaf without a value, as it does not count, stands in the middle."""
        places: list[float] = []
        for leaf, count in zip(self.leaves, self._counts, strict=True):
            if leaf.kind == "choice":
                places += [float(values.get(leaf.name) == index) for index in range(count)]
            else:
                places.append(leaf.place(values[leaf.name]) if leaf.name in values else 0.5)
        return places
