"""`ZOOptSearch`: classification-based optimization (sequential RACOS) by the library ZOOpt.

This module knows ZOOpt's dimensions and the order in which its search wants to be asked. It refuses to know how it learns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.errors import ConfigError, SearchSpaceError
from holdfast.search.asking import Asked, AskingSearcher
from holdfast.search.libraries import load
from holdfast.search.spaces import Leaf, SearchSpace
from holdfast.space import choice, quniform, randint

__all__ = ["ZOOptSearch"]

_ALGORITHMS = ("asracos", "sracos")
_FINEST = 1e-12  # in what steps a place in [0, 1] is chosen
_NEVER = float("inf")
_TRIES = 30  # it changes one dimension at a time, and gives up when it meets one in which there is nothing new


class ZOOptSearch(AskingSearcher):
    """Searches by telling apart where good configurations lie and where bad ones; `holdfast[zoopt]`.

    Real numbers are searched as places in [0, 1], logarithmic domains on their scale. A failed trial counts as worse than all.

    Args:
        algo: "asracos" or "sracos", one and the same here: the driver is what runs trials at once.
        budget: For how many trials the search is set up, 3 or more: the first 4 of up to 50 (6 of 100, 12 of 1,000) are drawn
            at random, and waited for. None: the experiment's `num_samples`, 100 where that is endless.
        dim_dict: A `param_space`, or name → one of ZOOpt's dimensions, as (`ValueType.CONTINUOUS`, [low, high], precision),
            (`ValueType.DISCRETE`, [low, high], has an order) or (`ValueType.GRID`, values); None for the experiment's space.
        metric: What is optimized; `TuneConfig(metric=...)` may say it instead.
        mode: "min" or "max".
        points_to_evaluate: Configurations that are suggested first.
        parallel_num: How many trials it thinks of at once, behind the random ones.
        **kwargs: Passed on to `zoopt.Parameter`, as `exploration_rate` and `uncertain_bits`.

    Raises:
        ConfigError: ZOOpt is not installed, or an argument that cannot be.
    """

    has_own_chance = False  # ZOOpt draws from NumPy's global generator

    def __init__(
        self,
        algo: str = "asracos",
        budget: int | None = None,
        dim_dict: dict[str, Any] | None = None,
        metric: str | None = None,
        mode: str | None = None,
        points_to_evaluate: Sequence[dict[str, Any]] | None = None,
        parallel_num: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(dim_dict, metric, mode, points_to_evaluate)
        load("zoopt", "zoopt", "ZOOptSearch")
        if str(algo).lower() not in _ALGORITHMS:
            raise ConfigError(f"ZOOptSearch(algo={algo!r}): one of {', '.join(_ALGORITHMS)}.")
        if budget is not None and budget < 3:
            raise ConfigError(f"ZOOptSearch(budget={budget!r}): 3 or more.")
        if parallel_num < 1:
            raise ConfigError(f"ZOOptSearch(parallel_num={parallel_num!r}): 1 or more.")
        self._budget = budget
        self._parallel = parallel_num
        self._arguments = kwargs
        self._leaves_searched: tuple[Leaf, ...] = ()
        self._search: Any = None

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        if self._space is None and self._budget is None:
            samples = int(spec.get("num_samples") or 0)
            self._budget = max(samples, 3) if samples > 0 else 100
        return super().set_search_properties(metric, mode, config, **spec)

    def begin(self, leaves: tuple[Leaf, ...], seed: int) -> None:
        import zoopt
        from zoopt.algos.opt_algorithms.racos.sracos import SRacosTune

        self._leaves_searched = leaves
        try:
            parameter = zoopt.Parameter(budget=self._budget or 100, **self._arguments)
        except TypeError as error:
            raise ConfigError(f"ZOOptSearch: zoopt.Parameter takes none of this: {error}.") from None
        self._search = SRacosTune(self._dimensions(), parameter, parallel_num=self._parallel)

    def native(self, space: Any) -> SearchSpace:
        made = self._open({name: _domain(name, dimension) for name, dimension in _checked(space).items()})
        self.begin(tuple(leaf for leaf in made.leaves if leaf.low < leaf.high), self._seed)
        return made

    def ask(self, fixed: Mapping[str, Any]) -> Asked | str | None:
        if all(leaf.name in fixed for leaf in self._leaves_searched):
            return Asked(self.put(fixed), dict(fixed))
        solution = self._suggested()
        if solution is None:
            return None
        if isinstance(solution, str):
            return self.FINISHED
        numbers = zip(self._leaves_searched, solution.get_x(), strict=True)
        values = {**{leaf.name: _value(leaf, number) for leaf, number in numbers}, **fixed}
        return Asked(self._solution(values) if fixed else solution, values)

    def put(self, values: Mapping[str, Any]) -> Any:
        search, solution = self._search, self._solution(values)
        if self._knows(solution) or not search.is_distinct(filter(None, self._handles.values()), solution):
            return None
        if search.init_num < search.get_parameters().get_train_size():
            search.init_num += 1  # it takes the place of a random one
        search.live_num += 1
        return solution

    def tell(self, handle: Any, loss: float, result: Mapping[str, Any]) -> None:
        if handle is None:
            return
        if self._knows(handle):  # found twice by trials that ran at once
            self._search.live_num -= 1
        else:
            self._search.complete(handle, loss)

    def fail(self, handle: Any) -> None:
        self.tell(handle, _NEVER, {})

    def _knows(self, solution: Any) -> bool:
        """Whether ZOOpt has learnt from an equal solution. From two it would look for what tells them apart, for ever."""
        search = self._search
        return not search.is_distinct([*search.get_positive_data(), *search.get_negative_data()], solution)

    def _suggested(self) -> Any:
        """A solution; None where something must be told first, `FINISHED` where nothing new was found."""
        search = self._search
        self._dimensions()
        for _ in range(_TRIES):
            running = search.live_num
            solution = search.suggest()
            if search.live_num > running and solution is None:
                search.live_num = running  # it counts a solution that it has not found
                return self.FINISHED
            ended = search.complete_num >= search.get_parameters().get_train_size()
            if solution is None and ended and not search.semaphore:
                search.semaphore = 1  # it waits for the random ones to end, and looks only when one ends: all have
            elif solution != self.FINISHED:
                return solution
        return self.FINISHED

    def _dimensions(self) -> Any:
        """The leaves as ZOOpt takes them.

        It keeps their precisions in a global, which this sets anew: a search may have come from a pickle, or another have begun.
        """
        import zoopt

        return zoopt.Dimension2([_dimension(leaf) for leaf in self._leaves_searched])

    def _solution(self, values: Mapping[str, Any]) -> Any:
        leaves = self._leaves_searched  # of a branch that was not chosen any value does, the middle as well as another
        numbers = [_number(leaf, values[leaf.name] if leaf.name in values else leaf.at(0.5)) for leaf in leaves]
        return self._search.get_objective().construct_solution(numbers)


def _is_place(leaf: Leaf) -> bool:
    return leaf.kind == "float" or leaf.log


def _dimension(leaf: Leaf) -> tuple[Any, ...]:
    import zoopt

    if _is_place(leaf):
        return (zoopt.ValueType.CONTINUOUS, [0, 1], _FINEST)
    if leaf.kind == "choice":
        return (zoopt.ValueType.GRID, list(range(int(leaf.high) + 1)))
    return (zoopt.ValueType.DISCRETE, [leaf.low, leaf.high], True)


def _value(leaf: Leaf, number: Any) -> Any:
    return leaf.at(float(number)) if _is_place(leaf) else leaf.value(number)


def _number(leaf: Leaf, value: Any) -> Any:
    return round(leaf.place(value), 12) if _is_place(leaf) else leaf.number(value)


def _checked(space: Any) -> dict[str, Any]:
    if not isinstance(space, dict) or not all(isinstance(one, (tuple, list)) and len(one) in (2, 3) for one in space.values()):
        raise SearchSpaceError(f"ZOOptSearch(dim_dict=...): a param_space, or name → dimension of ZOOpt's; not {space!r:.200}.")
    return space


def _domain(name: str, dimension: Sequence[Any]) -> Any:
    """The domain that one of ZOOpt's dimensions is."""
    import zoopt

    kind, (*bounds,) = dimension[0], dimension[1]
    if kind == zoopt.ValueType.GRID:
        return choice(bounds)
    if len(bounds) == 2 and kind == zoopt.ValueType.DISCRETE:
        return randint(bounds[0], bounds[1] + 1)
    if len(bounds) == 2 and len(dimension) == 3 and kind == zoopt.ValueType.CONTINUOUS:
        return quniform(bounds[0], bounds[1], dimension[2])
    raise SearchSpaceError(f"ZOOptSearch(dim_dict=...): {name!r} is {dimension!r:.200}, no dimension of ZOOpt's.")
