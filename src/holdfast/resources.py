"""Resources: what a trial asks for, and how a user says it.

Knows requests: amounts by kind, and how they lie together. Refuses to know what a machine has and who gets what:
engines count that, `_core.admission` decides. Inside, the kinds that Ray Tune writes "CPU" and "GPU" are "cpu" and "gpu";
every other kind ("memory" in bytes, custom ones) is called what the user calls it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any, NamedTuple, Union

from holdfast._core.policy import Placement
from holdfast.errors import ConfigError

__all__ = [
    "ATTRIBUTE",
    "DEFAULT",
    "PlacementGroupFactory",
    "Request",
    "asked_for",
    "asking",
    "given",
    "request_for",
    "with_resources",
]

ATTRIBUTE = "_holdfast_resources"
"""Where `with_resources` leaves what was asked for, on the trainable that it returns."""

STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")
_SHOWN = {"cpu": "CPU", "gpu": "GPU"}
_KINDS = {shown: kind for kind, shown in _SHOWN.items()}


class PlacementGroupFactory:
    """Resources of one trial as a list of bundles, the first of which is for the trial itself.

    On one machine a trial is given the sum of its bundles, whatever the strategy; "STRICT_SPREAD" asks for several
    machines and is refused there.

    Args:
        bundles: Each a dictionary such as `{"CPU": 2, "GPU": 0.5, "memory": 2**30, "hdd": 1}`. The first may be `{}`: the
            trial itself then takes nothing.
        strategy: "PACK", "SPREAD", "STRICT_PACK" or "STRICT_SPREAD".
        *args: Accepted as Ray Tune does; without effect, which a warning says.
        **kwargs: Likewise.

    Raises:
        ConfigError: No bundle asks for anything, one but the first is empty, or an amount or the strategy cannot be.
    """

    def __init__(self, bundles: Sequence[Mapping[str, float]], strategy: str = "PACK", *args: Any, **kwargs: Any) -> None:
        if isinstance(bundles, (str, Mapping)) or not all(isinstance(bundle, Mapping) for bundle in bundles):
            raise ConfigError(f"PlacementGroupFactory({bundles!r}): a list of dictionaries such as [{{'CPU': 1}}, {{'GPU': 1}}].")
        if strategy not in STRATEGIES:
            raise ConfigError(f"PlacementGroupFactory(strategy={strategy!r}): one of {', '.join(STRATEGIES)}.")
        amounts = [_amounts(bundle) for bundle in bundles]
        if not any(amounts):
            raise ConfigError(
                f"PlacementGroupFactory({bundles!r}) asks for nothing: give at least one bundle such as {{'CPU': 1}}."
            )
        if not all(amounts[1:]):
            raise ConfigError(f"PlacementGroupFactory({bundles!r}): only the first bundle may be empty.")
        if args or kwargs:
            import warnings

            named = [*map(repr, args), *(f"{key}={value!r}" for key, value in kwargs.items())]
            warnings.warn(f"PlacementGroupFactory: {', '.join(named)} has no effect in holdfast.", stacklevel=2)
        self._amounts = amounts
        self._strategy = strategy

    @property
    def bundles(self) -> list[dict[str, float]]:
        """The bundles that ask for something, kinds written as Ray Tune does. A copy."""
        return [_written(bundle) for bundle in self._amounts if bundle]

    @property
    def strategy(self) -> str:
        """How the bundles are to lie."""
        return self._strategy

    @property
    def head_bundle_is_empty(self) -> bool:
        """Whether the trial itself takes nothing."""
        return not self._amounts[0]

    @property
    def head_cpus(self) -> float:
        """CPUs of the first bundle."""
        return self._amounts[0].get("cpu", 0.0)

    @property
    def required_resources(self) -> dict[str, float]:
        """The sum of all bundles."""
        return _written(_sum(self._amounts))

    @classmethod
    def of(cls, amounts: Mapping[str, float], placement: Placement | None) -> PlacementGroupFactory:
        """The factory that stands for what a trial was given."""
        if placement is None:
            return cls([amounts])
        return cls(placement.bundles, placement.strategy)

    def request(self) -> Request:
        """What is asked for, as it goes on record."""
        return Request(_sum(self._amounts), Placement([dict(bundle) for bundle in self._amounts], self._strategy))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlacementGroupFactory) and other.request() == self.request()

    def __hash__(self) -> int:
        return hash((self._strategy, tuple(tuple(sorted(bundle.items())) for bundle in self._amounts)))

    def __repr__(self) -> str:
        bundles = [_written(bundle) for bundle in self._amounts]
        return f"PlacementGroupFactory({bundles}, strategy={self._strategy!r})"


class Request(NamedTuple):
    """What one attempt asks for.

    Attributes:
        amounts: By kind, all above 0.
        placement: How they lie together, where the user said so.
    """

    amounts: dict[str, float]
    placement: Placement | None = None


DEFAULT = Request({"cpu": 1.0})
"""What a trial is given whose user says nothing."""

Asked = Union[Mapping[str, Any], PlacementGroupFactory, Callable[[dict[str, Any]], Any]]


def with_resources(trainable: Callable[..., Any], resources: Asked) -> Any:
    """The trainable with what each of its trials is to be given; the original is not changed.

    Args:
        trainable: A function, partial, bound method, or a class trainable (whose `default_resource_request` is then not asked).
        resources: A dictionary such as `{"cpu": 2, "gpu": 0.5, "memory": 2**30, "custom_resources": {"hdd": 1}}` or
            `{"CPU": 2, "hdd": 1}` (what it does not name is 0), a `PlacementGroupFactory`, or a function that gets a trial's
            configuration and returns either. A function is asked once per trial; the answer is on record.

    Returns:
        A trainable of the same name; a subclass where a class was given.

    Raises:
        ConfigError: A trainable or a request that cannot be.
    """
    if isinstance(trainable, str) or not callable(trainable):
        raise ConfigError(f"with_resources({trainable!r}, ...): give the function or the class itself.")
    return asking(trainable, resources if callable(resources) else request_for(resources), "")


def asking(trainable: Any, asked: Request | Callable[[dict[str, Any]], Any], name: str) -> Any:
    """The trainable with a request left on it, under another name where one is given; the original is not changed."""
    if isinstance(trainable, type):
        same = {key: vars(trainable)[key] for key in ("__module__", "__qualname__", "__doc__") if key in vars(trainable)}
        if name:
            same["_name"] = name
        return type(trainable.__name__, (trainable,), {**same, ATTRIBUTE: _Kept(asked)})
    wrapped: Any = functools.partial(trainable)
    vars(wrapped).update({key: value for key, value in getattr(trainable, "__dict__", {}).items() if key != "__wrapped__"})
    vars(wrapped)["_name"] = name or _name_of(trainable)
    vars(wrapped)[ATTRIBUTE] = _Kept(asked)
    return wrapped


def asked_for(trainable: Any) -> Request | Callable[[dict[str, Any]], Any] | None:
    """What `with_resources` left on a trainable; None where nobody used it."""
    kept = getattr(trainable, ATTRIBUTE, None)
    return kept.asked if isinstance(kept, _Kept) else None


def request_for(resources: Any) -> Request:
    """What a dictionary, a factory or None (the default) asks for.

    Raises:
        ConfigError: It is none of them, asks for nothing, or for an amount that cannot be.
    """
    if resources is None:
        return DEFAULT
    if isinstance(resources, Request):
        return resources
    if isinstance(resources, PlacementGroupFactory):
        return resources.request()
    if not isinstance(resources, Mapping):
        raise ConfigError(
            f"Resources are {resources!r}: give a dictionary such as {{'cpu': 2, 'gpu': 1}}, a PlacementGroupFactory, or a "
            "function of the configuration that returns one of them."
        )
    named = dict(resources)
    custom = named.pop("custom_resources", None) or {}
    amounts = {**_amounts(custom), **_amounts(named)}
    if not amounts:
        raise ConfigError(f"Resources {resources!r} ask for nothing: name at least one, such as {{'cpu': 1}}.")
    return Request(amounts)


def given(ask: Callable[[dict[str, Any]], Any], config: dict[str, Any], trial: str) -> Request:
    """What a user's function asks for, for one trial; it also finds the configuration as `spec.config.x`.

    Raises:
        ConfigError: The function fails, or answers with what cannot be asked for; names the trial.
    """
    try:
        return request_for(ask(_spec(config)))
    except ConfigError as error:
        raise ConfigError(f"The resources of trial {trial}: {error}") from error
    except Exception as error:  # the user's function may raise anything; the trial's name helps to find out why
        raise ConfigError(
            f"The function that gives the resources of trial {trial} failed: {type(error).__name__}: {error}. "
            "Correct it; the experiment can be restored."
        ) from error


class _Kept:
    """What was asked for, as an attribute: a function kept so does not become a method of its class."""

    def __init__(self, asked: Request | Callable[[dict[str, Any]], Any]) -> None:
        self.asked = asked


class _Spec(dict[str, Any]):
    """A configuration whose keys are also attributes, and which is its own `config`."""

    def __missing__(self, key: str) -> Any:
        if key == "config":
            return self
        raise KeyError(key)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the configuration has no key {name!r}") from None


def _spec(node: Any) -> Any:
    """A copy of the containers in which dictionaries answer to attributes: what a function changes in it is lost."""
    if type(node) is dict:
        return _Spec((key, _spec(value)) for key, value in node.items())
    return [_spec(value) for value in node] if type(node) is list else node


def _amounts(bundle: Mapping[str, Any]) -> dict[str, float]:
    """The amounts above 0 by kind, kinds as they go on record."""
    amounts: dict[str, float] = {}
    for name, amount in bundle.items():
        kind = _KINDS.get(name, name)
        if not isinstance(name, str) or not name:
            raise ConfigError(f"Resources {dict(bundle)!r}: {name!r} is no name of a resource.")
        if kind in amounts:
            raise ConfigError(f"Resources {dict(bundle)!r}: {name!r} is named twice.")
        try:
            number = float("nan") if isinstance(amount, (bool, str)) else float(amount or 0)
        except (TypeError, ValueError):
            number = float("nan")
        if not isfinite(number) or number < 0:
            raise ConfigError(f"Resources {dict(bundle)!r}: {amount!r} is no amount of {name!r}; give a number, 0 or more.")
        if number:
            amounts[kind] = number
    return amounts


def _sum(bundles: Sequence[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for bundle in bundles:
        for kind, amount in bundle.items():
            total[kind] = total.get(kind, 0.0) + amount
    return total


def _written(amounts: Mapping[str, float]) -> dict[str, float]:
    """The amounts with the kinds as Ray Tune writes them."""
    return {_SHOWN.get(kind, kind): amount for kind, amount in amounts.items()}


def _name_of(trainable: Any) -> str:
    """The name of what stands at the bottom of wrappers."""
    name = getattr(trainable, "_name", None)
    while name is None and hasattr(trainable, "func"):
        trainable = trainable.func
        name = getattr(trainable, "_name", None)
    return str(name or getattr(trainable, "__name__", None) or type(trainable).__name__)
