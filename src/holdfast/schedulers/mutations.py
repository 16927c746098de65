"""Mutations: how the configuration of one trial becomes that of another.

Knows `hyperparam_mutations` (lists, domains, functions, nested dictionaries of them) and the explore step of Jaderberg et
al., "Population Based Training of Neural Networks", 2017, section 3. Refuses to know trials and scores. All chance comes
from the generator that the caller gives; a user's function draws from the global ones.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from numbers import Integral, Real
from typing import Any, NamedTuple

from holdfast.errors import ConfigError, WrongType
from holdfast.space import Categorical, Domain, Function, uses_user_functions

__all__ = ["Explorer", "calls_user_code", "check_mutations", "copied", "filled", "perturbed_tag"]

Config = dict[str, Any]
_LONGEST_TAG = 120  # of one value


class Explorer(NamedTuple):
    """The explore step.

    Attributes:
        mutations: As given by the user.
        resample_probability: How likely a value is drawn anew instead of being moved.
        factors: What a number is multiplied by, each as likely.
    """

    mutations: Mapping[str, Any]
    resample_probability: float
    factors: tuple[float, ...]

    def explored(self, config: Config, chance: random.Random) -> Config:
        """A new configuration, near to `config`, which stays as it is.

        Per mutated key, in the order given: one draw whether it is resampled; then the value is drawn, or one draw moves it
        to a neighbour in its list, or multiplies it. A whole number stays one (its fraction is cut off). A value that is not
        in its list, or is no number where one is to be multiplied, is drawn anew.
        """
        new: Config = copied(config)
        self._explore(new, self.mutations, chance)
        return new

    def _explore(self, config: Config, mutations: Mapping[str, Any], chance: random.Random) -> None:
        for key, values in mutations.items():
            if isinstance(values, Mapping):
                if not isinstance(config.get(key), dict):
                    config[key] = {}
                self._explore(config[key], values, chance)
            else:
                config[key] = self._moved(config.get(key), values, chance)

    def _moved(self, value: Any, values: Any, chance: random.Random) -> Any:
        resample = chance.random() < self.resample_probability
        listed = _listed(values)
        if listed is not None:
            at = _position(listed, value)
            if resample or at is None:
                return chance.choice(listed)
            return listed[min(max(at + chance.choice((-1, 1)), 0), len(listed) - 1)]
        if resample or isinstance(value, bool) or not isinstance(value, Real):
            return _drawn(values, chance)
        moved: Any = value
        moved *= chance.choice(self.factors)
        return int(moved) if isinstance(value, Integral) else moved


def check_mutations(mutations: Any, what: str = "hyperparam_mutations") -> None:
    """Refuses what cannot say how a configuration mutates.

    Raises:
        WrongType: A value is no list, tuple, dictionary, domain or function.
        ConfigError: A list is empty, or a `sample_from` stands where a plain function belongs.
    """
    if not isinstance(mutations, Mapping):
        raise WrongType(f"{what} must be a dictionary of lists, domains, functions or such dictionaries, not {mutations!r:.200}.")
    for key, values in mutations.items():
        where = f"{what}[{key!r}]"
        if isinstance(values, Mapping):
            check_mutations(values, where)
        elif isinstance(values, Function):
            raise ConfigError(f"{where} is a sample_from, which may need other keys: give a function without arguments itself.")
        elif isinstance(values, (list, tuple)):
            if not values:
                raise ConfigError(f"{where} is empty: list the values that it may take.")
        elif not isinstance(values, Domain) and not callable(values):
            raise WrongType(
                f"{where} is {values!r:.200}: give a list, a domain such as uniform(0, 1), or a function without arguments."
            )


def calls_user_code(mutations: Mapping[str, Any]) -> bool:
    """Whether drawing from the mutations calls a function of the user's, or a domain class of their own."""
    leaves = [values for _, values in _leaves(mutations)]
    return any(uses_user_functions(values) if isinstance(values, Domain) else callable(values) for values in leaves)


def filled(config: Config, mutations: Mapping[str, Any], chance: random.Random) -> Config | None:
    """The configuration with each mutated key that it lacks drawn; None where it lacks none."""
    new = copied(config)
    return new if _fill(new, mutations, chance) else None


def copied(node: Any) -> Any:
    """A copy of the dictionaries and lists; what stands in them (arrays, references) is shared."""
    if type(node) is dict:
        return {key: copied(value) for key, value in node.items()}
    return [copied(value) for value in node] if type(node) is list else node


def perturbed_tag(tag: str, config: Config, mutations: Mapping[str, Any]) -> str:
    """A trial's tag after a mutation, such as `3_lr=0.1000@perturbed[lr=0.0800]`."""
    pairs = []
    for path, _ in _leaves(mutations):
        value: Any = config
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        pairs.append(f"{path[-1]}={value:.4f}" if isinstance(value, float) else f"{path[-1]}={_cleaned(value)}")
    return f"{tag}@perturbed[{','.join(sorted(pairs))}]" if pairs else f"{tag}@perturbed"


def _fill(config: Config, mutations: Mapping[str, Any], chance: random.Random) -> bool:
    lacked = False
    for key, values in mutations.items():
        if isinstance(values, Mapping):
            lacked |= key not in config
            below = config.setdefault(key, {})
            if isinstance(below, dict):
                lacked |= _fill(below, values, chance)
        elif key not in config:
            lacked = True
            listed = _listed(values)
            config[key] = _drawn(values, chance) if listed is None else chance.choice(listed)
    return lacked


def _leaves(mutations: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, values in mutations.items():
        if isinstance(values, Mapping):
            yield from _leaves(values, (*path, key))
        else:
            yield (*path, key), values


def _listed(values: Any) -> list[Any] | None:
    """The values to choose from, where they are listed."""
    if isinstance(values, Categorical):
        return values.categories
    return list(values) if isinstance(values, (list, tuple)) else None


def _position(listed: list[Any], value: Any) -> int | None:
    try:
        return listed.index(value)
    except ValueError:  # it is not there; or arrays, which do not compare to one answer
        return None


def _drawn(values: Any, chance: random.Random) -> Any:
    return values.draw(chance) if isinstance(values, Domain) else values()


def _cleaned(value: Any) -> str:
    try:
        text = str(value)
    except Exception:  # noqa: BLE001 - the user's own __str__ may fail; a tag must not
        text = type(value).__name__
    return re.sub(r"[^a-zA-Z0-9_-]+", "_", text[:_LONGEST_TAG]).strip("_")
