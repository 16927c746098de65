"""The three ways in which a space is said to Optuna: Tune's domains, Optuna's distributions, a function of its trial.

Each of the three classes has Optuna choose (`ask`), and finds its way back from a configuration to Optuna's parameters
(`parameters`). They know Optuna's trials and distributions. They refuse to know whose trial it is and what becomes of it.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

from holdfast import values
from holdfast.errors import SearchSpaceError, WrongType
from holdfast.search.libraries import load
from holdfast.search.spaces import Leaf, SearchSpace, holds_domains
from holdfast.search.variants import Variant
from holdfast.space import Float

__all__ = ["NAME", "Told", "Way", "followed_by", "way_of"]

NAME = "OptunaSearch"


class Told(NamedTuple):
    """A configuration as Optuna stores it.

    Attributes:
        parameters: Name → value in Optuna's representation.
        distributions: The same names → Optuna distributions.
    """

    parameters: dict[str, Any]
    distributions: dict[str, Any]


class Way(Protocol):
    """A space that Optuna can be asked about.

    Attributes:
        calls_user: Whether asking calls functions of the user's.
    """

    calls_user: bool

    def ask(self, study: Any, seed: int, point: Any) -> tuple[Any, Variant]:
        """Optuna's new trial and the configuration that it stands for; `point` is the user's, where its turn has come."""

    def point(self, point: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """One of `points_to_evaluate`: Optuna's parameters to fix, and what `ask` is to be given with them."""

    def parameters(self, config: dict[str, Any]) -> Told:
        """The way back; what cannot be told of is left out."""


def way_of(space: Any) -> Way:
    """The way for a user's space.

    Raises:
        WrongType: It is no dictionary and no function, or a dictionary of neither domains nor distributions.
        SearchSpaceError: It holds what cannot be searched; names it.
    """
    if callable(space):
        return ByFunction(space)
    if not isinstance(space, dict):
        raise WrongType(
            f"{NAME}(space=...) is {type(space).__name__}: give a dictionary of Tune's domains or of Optuna's distributions, "
            "or a function of Optuna's trial."
        )
    distribution = load("optuna", "optuna", NAME).distributions.BaseDistribution
    theirs = [name for name, value in space.items() if isinstance(value, distribution)]
    if not theirs:
        return ByDomains(space)
    if len(theirs) < len(space) or holds_domains(space):
        odd = sorted(str(name) for name in space if name not in theirs)
        raise WrongType(f"{NAME}(space=...) mixes Optuna's distributions with others ({odd}). Constants belong into param_space.")
    return ByDistributions(space)


def followed_by(before: Way | None, after: Way) -> Way:
    """The way `after`, for a study whose trials so far came by `before`.

    Raises:
        SearchSpaceError: A parameter would be of another kind than the trials so far have it, or its numbers would mean something
            else, so that what was learned of them would be wrong.
    """
    if isinstance(before, ByDomains) and isinstance(after, ByDomains):
        check = load("optuna.distributions", "optuna", NAME).check_distribution_compatibility
        old, new = before.distributions, after.distributions
        for name in old.keys() & new.keys():
            try:
                check(old[name], new[name])
            except ValueError as error:
                raise SearchSpaceError(
                    f"new_space changes {name!r} from {old[name]} to {new[name]}, which one study of Optuna's cannot hold: "
                    f"{error}. Change bounds only, or begin another experiment with this one's best as points_to_evaluate."
                ) from error
            then, now = before.meaning(name), after.meaning(name)
            if then != now:
                raise SearchSpaceError(
                    f"new_space changes {name!r} from {then} to {now}: what Optuna has learned of it would be taken for "
                    "something else. Change bounds only, or begin another experiment with this one's best as points_to_evaluate."
                )
    return after


class ByDomains:
    """A space in Tune's domains, nested as it may be.

    A name in the study is the flattened key (`net/width`). Uniform, logarithmic, whole and stepped domains are Optuna's own
    distributions; a logarithmic one with steps is searched by the step's number, Gauss's law by its quantile in (0, 1),
    a choice of other objects than text, numbers, booleans and None by the category's number.
    """

    def __init__(self, space: dict[Any, Any]) -> None:
        self.space = SearchSpace(space, NAME)
        self.calls_user = self.space.has_functions
        self._made = {leaf.name: _Parameter(leaf) for leaf in self.space.leaves}
        self._always = {name: made.distribution for name, made in self._made.items() if not made.leaf.needs}
        self._sometimes = [made for made in self._made.values() if made.leaf.needs]

    @property
    def distributions(self) -> dict[str, Any]:
        """Name → Optuna distribution, of all parameters."""
        return {name: made.distribution for name, made in self._made.items()}

    def meaning(self, name: str) -> str:
        """What a value of that parameter stands for in the study, in words."""
        return self._made[name].meaning()

    def ask(self, study: Any, seed: int, point: Any) -> tuple[Any, Variant]:
        trial = study.ask(fixed_distributions=self._always)
        given = trial.params
        chosen = {name: self._made[name].value(given[name]) for name in self._always}
        for made in self._sometimes:
            if all(chosen.get(name) == index for name, index in made.leaf.needs):
                chosen[made.leaf.name] = made.value(made.suggest(trial))
        return trial, self.space.config(chosen, seed, point)

    def point(self, point: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        read = self.space.point(point)
        return {name: self._made[name].parameter(value) for name, value in read.values.items()}, read.template

    def parameters(self, config: dict[str, Any]) -> Told:
        found = {name: value for name, value in self.space.values(config).items() if self._made[name].admits(value)}
        return Told(
            {name: self._made[name].parameter(value) for name, value in found.items()},
            {name: self._made[name].distribution for name in found},
        )


class ByDistributions:
    """A dictionary of Optuna's distributions; `a/b` in a name nests."""

    calls_user = False

    def __init__(self, space: dict[str, Any]) -> None:
        self._space = space

    def ask(self, study: Any, seed: int, point: Any) -> tuple[Any, Variant]:
        trial = study.ask(fixed_distributions=self._space)
        flat = dict(trial.params)
        flat.update(point or {})
        return trial, Variant(values.unflatten(flat), flat)

    def point(self, point: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        flat = values.flatten(point)
        unknown = sorted(set(flat) - set(self._space))
        if unknown:
            raise SearchSpaceError(f"points_to_evaluate names {unknown}, unknown to the space. Add them there, or drop them.")
        outside = sorted(name for name, value in flat.items() if not _takes(self._space[name], value))
        if outside:
            raise SearchSpaceError(f"points_to_evaluate has values of {outside} that lie outside their distributions.")
        return flat, flat

    def parameters(self, config: dict[str, Any]) -> Told:
        flat = values.flatten(config)
        found = {name: flat[name] for name, law in self._space.items() if name in flat and _takes(law, flat[name])}
        return Told(found, {name: self._space[name] for name in found})


class ByFunction:
    """A user's function of Optuna's trial ("define by run"); what it returns is added to what it asked the trial for."""

    calls_user = True

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def ask(self, study: Any, seed: int, point: Any) -> tuple[Any, Variant]:
        trial = study.ask()
        constants = self._function(trial)
        if constants is not None and not (isinstance(constants, dict) and all(isinstance(key, str) for key in constants)):
            raise WrongType(
                f"The function in {NAME}(space=...) returned {constants!r:.100}: it may return nothing, or a dictionary "
                "with text keys to add to the configuration."
            )
        flat = dict(trial.params)
        return trial, Variant(values.unflatten({**flat, **(constants or {})}), flat)

    def point(self, point: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        return values.flatten(point), None

    def parameters(self, config: dict[str, Any]) -> Told:
        trial = load("optuna", "optuna", NAME).trial.FixedTrial(values.flatten(config))
        try:
            self._function(trial)
        except ValueError:  # the configuration lacks what the function asks for, or has it outside the bounds
            return Told({}, {})
        return Told(dict(trial.params), dict(trial.distributions))


class _Parameter:
    """A leaf as an Optuna parameter."""

    def __init__(self, leaf: Leaf) -> None:
        laws = load("optuna.distributions", "optuna", NAME)
        self.leaf = leaf
        self._labels: list[Any] | None = None
        self._step: float | None = None
        if leaf.kind == "choice":
            categories = leaf.domain.categories  # type: ignore[attr-defined]  # a choice is a Categorical
            self._labels = list(categories if _plain(categories) else range(len(categories)))
            self.distribution = laws.CategoricalDistribution(self._labels)
        elif leaf.kind == "float":
            self.distribution = laws.FloatDistribution(leaf.low, leaf.high, log=leaf.log)
        else:
            self._step = _shown_step(leaf)
            if self._step is None:
                self.distribution = laws.IntDistribution(leaf.low, leaf.high, log=leaf.log)
            elif isinstance(leaf.domain, Float):
                self.distribution = laws.FloatDistribution(leaf.domain.lower, leaf.domain.upper, step=self._step)
            else:
                low, high, step = (int(bound * self._step) for bound in (leaf.low, leaf.high, 1))
                self.distribution = laws.IntDistribution(low, high, step=step)

    def suggest(self, trial: Any) -> Any:
        """Asks Optuna's trial for this parameter alone."""
        name, law = self.leaf.name, self.distribution
        if self._labels is not None:
            return trial.suggest_categorical(name, law.choices)
        if isinstance(law.low, int):
            return trial.suggest_int(name, law.low, law.high, step=law.step, log=law.log)
        return trial.suggest_float(name, law.low, law.high, step=law.step, log=law.log)

    def value(self, parameter: Any) -> Any:
        """What Optuna's value means in the configuration; a choice's index."""
        if self._labels is not None:
            return int(self.distribution.to_internal_repr(parameter))
        return self.leaf.value(parameter if self._step is None else round(parameter / self._step))

    def parameter(self, value: Any) -> Any:
        """What Optuna calls a value of the configuration; the nearest one where the value lies outside."""
        number = self.leaf.number(value)
        if self._labels is not None:
            return self._labels[number]
        return number if self._step is None else min(max(number * self._step, self.distribution.low), self.distribution.high)

    def meaning(self) -> str:
        """What its value stands for, in words: equal ones may have other bounds and are still one parameter."""
        leaf = self.leaf
        if leaf.by_quantile:
            return f"a quantile of {leaf.domain!r}"
        if self._labels is not None:
            categories = leaf.domain.categories  # type: ignore[attr-defined]  # a choice is a Categorical
            return "a category" if _plain(categories) else f"the number of a category of {categories!r}"
        return "a value" if leaf.step is None or self._step is not None else f"a number of steps of {leaf.step}"

    def admits(self, value: Any) -> bool:
        """Whether a value lies inside, so that Optuna may learn of it."""
        return self._labels is not None or bool(self.leaf.domain.is_valid(value))


def _shown_step(leaf: Leaf) -> float | None:
    """The step by which Optuna itself can count, so that its study shows the real values; None: it counts steps."""
    step = leaf.step
    if step is None or leaf.log or leaf.kind != "int":
        return None
    if not isinstance(leaf.domain, Float):
        return step
    # Optuna takes the bounds for what their decimals say, and drops an upper one that is no multiple by them.
    low, high, by = (Decimal(str(float(number))) for number in (leaf.domain.lower, leaf.domain.upper, step))
    return float(step) if (high - low) % by == 0 else None


def _plain(categories: list[Any]) -> bool:
    """Whether Optuna can hold the categories themselves and tell them apart."""
    plain = all(type(value) in (str, int, float, bool, type(None)) and value == value for value in categories)
    return plain and len(set(categories)) == len(categories)


def _takes(law: Any, value: Any) -> bool:
    """Whether a value lies in an Optuna distribution."""
    try:
        if hasattr(law, "choices"):
            law.to_internal_repr(value)
            return True
        return bool(law.low <= value <= law.high)
    except (TypeError, ValueError):  # no category, or nothing to compare
        return False
