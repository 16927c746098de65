"""Domains: the values that one place of a search space may take.

This module knows bounds and which law draws between them (`holdfast.space.laws`). It refuses to know where a domain stands
and what stands beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, TypeVar

from holdfast.errors import SearchSpaceError
from holdfast.space.laws import (
    Grid,
    LogUniform,
    Normal,
    Quantized,
    Source,
    Uniform,
    below,
    bound,
    check_order,
    check_positive,
    check_step,
    listed,
    source_of,
    whole,
)

__all__ = ["UNSET", "Categorical", "Domain", "Float", "Function", "Integer"]

UNSET = object()
D = TypeVar("D", bound="Domain")


class Domain:
    """The values that one place of a `param_space` may take, and the law by which they are drawn.

    Subclass it (`draw`, `is_valid`) for a domain of your own; while its `draw` runs, `random` and `numpy.random` are seeded.

    Attributes:
        sampler: The law, or None for the default one.
    """

    sampler: Any = None
    default_sampler_cls: Callable[[], Any] = Uniform

    def draw(self, source: Source, config: Any = None) -> Any:
        """One value, from one or more numbers of `source`."""
        raise NotImplementedError(f"{type(self).__name__} must define draw(source, config)")

    def sample(self, config: Any = None, size: int = 1, random_state: Any = None) -> Any:
        """Draws a value, or with `size` above 1 a list of values.

        Args:
            config: What a `sample_from` function is called with (a list: one per value).
            size: How many values.
            random_state: int, `random.Random`, `numpy.random.RandomState`, `numpy.random.Generator`, or None for the
                process's global generator.
        """
        source = source_of(random_state)
        configs = config if isinstance(config, list) else [config] * size
        values = [self.draw(source, configs[i]) for i in range(size)]
        return values if size > 1 else values[0]

    def cast(self, value: Any) -> Any:
        """The value with the domain's own type."""
        return value

    def is_valid(self, value: Any) -> bool:
        """Whether `value` lies in the domain."""
        raise NotImplementedError(f"{type(self).__name__} must define is_valid(value)")

    def is_grid(self) -> bool:
        """Whether every category is to be used once instead of one being drawn."""
        return isinstance(self.sampler, Grid)

    def is_function(self) -> bool:
        """Whether a user's function makes the value."""
        return False

    def get_sampler(self) -> Any:
        """The law in force."""
        return self.sampler or type(self).default_sampler_cls()

    def set_sampler(self, sampler: Any, allow_override: bool = False) -> None:
        """Sets the law, once unless `allow_override`."""
        if self.sampler is not None and not allow_override:
            raise SearchSpaceError(f"{self!r} has its law already ({self.sampler!r}); it cannot also be {sampler!r}.")
        self.sampler = sampler

    @property
    def domain_str(self) -> str:
        """The domain's bounds, for people."""
        return "(unknown)"

    def __repr__(self) -> str:
        law = f", {self.sampler!r}" if self.sampler is not None else ""
        return f"{type(self).__name__}{self.domain_str}{law}"

    def _with(self: D, sampler: Any, override: bool = False) -> D:
        new = copy(self)
        new.set_sampler(sampler, allow_override=override)
        return new


class Float(Domain):
    """Real numbers from `lower` up to, not including, `upper`; None means unbounded."""

    def __init__(self, lower: float | None, upper: float | None) -> None:
        self.lower = bound(lower, -math.inf)
        self.upper = bound(upper, math.inf)
        check_order(self.lower, self.upper)

    def uniform(self) -> Float:
        """The same bounds, drawn evenly."""
        self._need_bounds("uniform")
        return self._with(Uniform())

    def loguniform(self, base: object = UNSET) -> Float:
        """The same bounds, drawn evenly on a logarithmic scale; `base` is without effect."""
        _warn_of(base)
        self._need_bounds("loguniform")
        check_positive(self.lower)
        return self._with(LogUniform())

    def normal(self, mean: float = 0.0, sd: float = 1.0) -> Float:
        """Drawn by Gauss's law; only for a domain without bounds."""
        if self.lower > -math.inf or self.upper < math.inf:
            raise SearchSpaceError(f"A normal domain has no bounds; {self.domain_str} has. Use Float(None, None).normal(...).")
        return self._with(Normal(mean, sd))

    def quantized(self, q: float) -> Float:
        """The same domain rounded to multiples of `q`, the upper bound included. Both bounds must be multiples."""
        check_step(q)
        for edge in (self.lower, self.upper):
            if math.isfinite(edge) and not math.isclose(edge / q, round(edge / q)):
                raise SearchSpaceError(f"The bound {edge} is no multiple of q={q}. Move the bound, or take a q that divides it.")
        return self._with(Quantized(self.get_sampler(), q), override=True)

    def draw(self, source: Source, config: Any = None) -> float:
        sampler = self.sampler or Uniform()
        value: float = sampler.real(self.lower, self.upper, source)
        if value >= self.upper and not isinstance(sampler, Quantized):
            return math.nextafter(self.upper, self.lower)  # rounding met the bound, which is not in the domain
        return max(value, self.lower)

    def cast(self, value: Any) -> float:
        return float(value)

    def is_valid(self, value: Any) -> bool:
        return bool(self.lower <= value <= self.upper)

    @property
    def domain_str(self) -> str:
        return f"({self.lower}, {self.upper})"

    def _need_bounds(self, law: str) -> None:
        if not (math.isfinite(self.lower) and math.isfinite(self.upper)):
            raise SearchSpaceError(f"{law} needs a lower and an upper bound, not {self.domain_str}.")


class Integer(Domain):
    """Whole numbers from `lower` up to, not including, `upper`."""

    def __init__(self, lower: int, upper: int) -> None:
        self.lower = whole(lower)
        self.upper = whole(upper)
        check_order(self.lower, self.upper)

    def uniform(self) -> Integer:
        """The same bounds, drawn evenly."""
        return self._with(Uniform())

    def loguniform(self, base: object = UNSET) -> Integer:
        """The same bounds, drawn evenly on a logarithmic scale; `base` is without effect."""
        _warn_of(base)
        check_positive(self.lower)
        return self._with(LogUniform())

    def quantized(self, q: int) -> Integer:
        """Only multiples of `q`, each as likely as the law makes its place; the upper bound is included unless `q` is 1."""
        check_step(q)
        step = whole(q)
        if -(-self.lower // step) > self.upper // step:
            raise SearchSpaceError(f"No multiple of q={q} lies between {self.lower} and {self.upper}. Choose a smaller q.")
        return self._with(Quantized(self.get_sampler(), step), override=True)

    def draw(self, source: Source, config: Any = None) -> int:
        value: int = (self.sampler or Uniform()).whole(self.lower, self.upper, source)
        return value

    def cast(self, value: Any) -> int:
        return int(value)

    def is_valid(self, value: Any) -> bool:
        return bool(self.lower <= value <= self.upper)

    @property
    def domain_str(self) -> str:
        return f"({self.lower}, {self.upper})"


class Categorical(Domain):
    """One of the given values, which may be anything, spaces with domains of their own included."""

    def __init__(self, categories: Sequence[Any]) -> None:
        self.categories = listed(categories, "choice")

    def uniform(self) -> Categorical:
        """Each category as likely as the others."""
        return self._with(Uniform())

    def grid(self) -> Categorical:
        """Each category once."""
        return self._with(Grid())

    def draw(self, source: Source, config: Any = None) -> Any:
        if self.is_grid():
            raise SearchSpaceError("A grid is not drawn from: each of its values is used once.")
        return self.categories[below(len(self.categories), source)]

    def is_valid(self, value: Any) -> bool:
        return value in self.categories

    def __len__(self) -> int:
        return len(self.categories)

    def __getitem__(self, item: int) -> Any:
        return self.categories[item]

    @property
    def domain_str(self) -> str:
        return f"{self.categories}"


class Function(Domain):
    """A value that a user's function makes; it takes no argument, or one: the configuration so far."""

    def __init__(self, func: Callable[..., Any]) -> None:
        from inspect import signature

        try:
            parameters = signature(func)
        except (TypeError, ValueError):
            raise SearchSpaceError(f"sample_from cannot see what arguments {func!r} takes. Wrap it: lambda config: ...") from None
        self.func = func
        self.pass_config = _binds(parameters.bind, {})
        if not self.pass_config and not _binds(parameters.bind):
            raise SearchSpaceError(f"The function of a sample_from takes 0 or 1 arguments; {func!r} takes {parameters}.")

    def draw(self, source: Source, config: Any = None) -> Any:
        return self.func(config) if self.pass_config else self.func()

    def is_function(self) -> bool:
        return True

    def is_valid(self, value: Any) -> bool:
        return True

    @property
    def domain_str(self) -> str:
        return f"({getattr(self.func, '__name__', self.func)})"


def _warn_of(base: object) -> None:
    if base is not UNSET:
        import warnings

        warnings.warn("`base` has no effect: the law is the same for each base.", DeprecationWarning, stacklevel=4)


def _binds(bind: Callable[..., object], *arguments: object) -> bool:
    try:
        bind(*arguments)
    except TypeError:
        return False
    return True
