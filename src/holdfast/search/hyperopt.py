"""`HyperOptSearch`: Hyperopt's tree-structured Parzen estimators.

This module knows Hyperopt's expressions and its documents of trials. It refuses to let Hyperopt run anything: Hyperopt is
asked and told.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.errors import ConfigError, SearchSpaceError
from holdfast.search.asking import Asked, AskingSearcher
from holdfast.search.libraries import load
from holdfast.search.spaces import Leaf, Point, SearchSpace, seed_of
from holdfast.search.variants import Variant
from holdfast.values import flatten

__all__ = ["HyperOptSearch"]


class HyperOptSearch(AskingSearcher):
    """Searches with Hyperopt's TPE (Bergstra et al., "Algorithms for Hyper-Parameter Optimization", 2011); `holdfast[hyperopt]`.

    Choices whose categories hold domains are searched as the tree that they are. Gauss's laws are searched by their quantile.

    Args:
        space: A `param_space`, or a dictionary of Hyperopt's own expressions (`hp.uniform(...)`); None for the experiment's.
        metric: What is optimized; `TuneConfig(metric=...)` may say it instead.
        mode: "min" or "max".
        points_to_evaluate: Configurations that are suggested first. In a space of Hyperopt's own: label → value, of a choice its
            index.
        n_initial_points: How many suggestions are random before the model has its say.
        random_state_seed: Of all chance; None: the experiment's seed.
        gamma: The share of the best trials that the model calls good.

    Raises:
        ConfigError: Hyperopt is not installed, or an argument that cannot be.
    """

    def __init__(
        self,
        space: dict[str, Any] | None = None,
        metric: str | None = None,
        mode: str | None = None,
        points_to_evaluate: Sequence[dict[str, Any]] | None = None,
        n_initial_points: int = 20,
        random_state_seed: int | None = None,
        gamma: float = 0.25,
    ) -> None:
        super().__init__(space, metric, mode, points_to_evaluate)
        if n_initial_points < 1 or not 0 < gamma < 1:
            raise ConfigError(
                f"HyperOptSearch: n_initial_points={n_initial_points!r} below 1, or, gamma={gamma!r} outside (0, 1)."
            )
        load("hyperopt", "hyperopt", "HyperOptSearch")
        self._initial = n_initial_points
        self._gamma = gamma
        self.own_seed = random_state_seed
        self._domain: Any = None
        self._trials: Any = None
        self._chance = 0
        self._asked = 0

    def begin(self, leaves: tuple[Leaf, ...], seed: int) -> None:
        self._begin_with(_tree(leaves, ()), seed)

    def native(self, space: Any) -> SearchSpace | _Expressions:
        if not isinstance(space, dict):
            raise SearchSpaceError(
                f"HyperOptSearch(space=...) takes a dictionary, as {{'x': hp.uniform(...)}}, not {space!r:.200}."
            )
        self._begin_with(space, self._seed)
        return _Expressions(self._domain)

    def ask(self, fixed: Mapping[str, Any]) -> Asked:
        from hyperopt import tpe

        (tid,) = self._trials.new_trial_ids(1)
        self._trials.refresh()
        chance = seed_of(self._chance, str(self._asked))
        self._asked += 1
        documents = tpe.suggest(
            [tid], self._domain, self._trials, chance % 2**31, n_startup_jobs=self._initial, gamma=self._gamma, verbose=False
        )
        numbers = {label: _plain(used[0]) for label, used in documents[0]["misc"]["vals"].items() if len(used)}
        if not fixed:
            self._trials.insert_trial_docs(documents)
            return Asked(tid, self._values(numbers))
        values = {**self._values(numbers), **fixed}
        self._close_branches(values, random.Random(chance))
        return Asked(self._insert(tid, values), values)

    def put(self, values: Mapping[str, Any]) -> Any:
        if not isinstance(self._space, SearchSpace) and self._domain.params.keys() - values.keys():
            return None  # a configuration does not say which way through the expressions made it
        (tid,) = self._trials.new_trial_ids(1)
        return self._insert(tid, values)

    def tell(self, handle: Any, loss: float, result: Mapping[str, Any]) -> None:
        self._end(handle, _DONE, {"loss": loss, "status": "ok"})

    def fail(self, handle: Any) -> None:
        self._end(handle, _ERROR, {"status": "fail"})

    def _begin_with(self, expression: Any, seed: int) -> None:
        import hyperopt

        self._chance = seed if self.own_seed is None else self.own_seed
        self._domain = hyperopt.Domain(_nothing, expression)
        self._trials = hyperopt.Trials()

    def _values(self, numbers: Mapping[str, Any]) -> dict[str, Any]:
        leaves = self._space.by_name if isinstance(self._space, SearchSpace) else {}
        return {label: leaves[label].value(number) if label in leaves else number for label, number in numbers.items()}

    def _close_branches(self, values: dict[str, Any], chance: random.Random) -> None:
        """Draws for leaves of a branch that was not the suggestion's, but is a point's."""
        for leaf in self._space.leaves if isinstance(self._space, SearchSpace) else ():
            if leaf.name not in values and all(values.get(name) == at for name, at in leaf.needs):
                values[leaf.name] = leaf.at(chance.random())

    def _insert(self, tid: int, values: Mapping[str, Any]) -> int:
        """A document of a suggestion that is not Hyperopt's own."""
        numbers = dict(values)
        if isinstance(self._space, SearchSpace):
            numbers = {leaf.name: leaf.number(values[leaf.name]) for leaf in self._space.counting(values)}
        used = {label: [numbers[label]] if label in numbers else [] for label in self._domain.params}
        misc = {
            "tid": tid,
            "cmd": self._domain.cmd,
            "workdir": None,
            "idxs": {label: [tid] if number else [] for label, number in used.items()},
            "vals": used,
        }
        self._trials.insert_trial_docs(self._trials.new_trial_docs([tid], [None], [self._domain.new_result()], [misc]))
        return tid

    def _end(self, tid: int, state: int, result: dict[str, Any]) -> None:
        self._trials.refresh()
        for document in self._trials.trials:
            if document["tid"] == tid:
                document["state"] = state
                document["result"] = result


_DONE, _ERROR = 2, 3  # Hyperopt's words for the state of a trial's document


class _Expressions:
    """A space of Hyperopt's own expressions: values are what its labels were drawn as."""

    has_functions = False

    def __init__(self, domain: Any) -> None:
        self._domain = domain

    def config(self, values: Mapping[str, Any], seed: int = 0, template: dict[Any, Any] | None = None) -> Variant:
        from hyperopt import pyll

        memo = self._domain.memo_from_config(values)
        config = dict(pyll.rec_eval(self._domain.expr, memo=memo, print_node_on_error=False))
        return Variant(config, flatten(config))

    def values(self, config: Any) -> dict[str, Any]:
        """What the keys of a label's own name hold, where that is a number."""
        found = flatten(config)
        return {label: found[label] for label in self._domain.params if isinstance(found.get(label), (int, float))}

    def point(self, point: Any) -> Point:
        unknown = sorted(set(point) - set(self._domain.params)) if isinstance(point, dict) else point
        if unknown:
            raise SearchSpaceError(
                f"points_to_evaluate holds {unknown!r:.200}: give label → value, with the labels of the space "
                f"({sorted(self._domain.params)}) and for a choice the index."
            )
        return Point(dict(point), {})


def _tree(leaves: tuple[Leaf, ...], chosen: tuple[tuple[str, int], ...]) -> dict[str, Any]:
    """The expressions of the leaves that count where these categories were chosen."""
    searched = {leaf.name for leaf in leaves}
    tree: dict[str, Any] = {}
    for leaf in leaves:
        needs = tuple(need for need in leaf.needs if need[0] in searched)  # the others have one category only
        if needs == chosen:
            branches = []
            if leaf.kind == "choice":
                branches = [_tree(leaves, (*chosen, (leaf.name, number))) for number in range(int(leaf.high) + 1)]
            tree[leaf.name] = _choice(leaf.name, branches) if any(branches) else _expression(leaf)
    return tree


def _choice(label: str, branches: list[dict[str, Any]]) -> Any:
    from hyperopt import hp

    return hp.choice(label, [branch or number for number, branch in enumerate(branches)])


def _expression(leaf: Leaf) -> Any:
    from hyperopt import hp

    if leaf.kind == "choice":
        return hp.randint(leaf.name, int(leaf.high) + 1)
    if leaf.kind == "float":
        bounds = (math.log(leaf.low), math.log(leaf.high)) if leaf.log else (leaf.low, leaf.high)
        return (hp.loguniform if leaf.log else hp.uniform)(leaf.name, *bounds)
    low, high = leaf.low - 0.5, leaf.high + 0.5  # so that the bounds are as likely as what lies between them
    if leaf.log:
        return hp.qloguniform(leaf.name, math.log(low), math.log(high), 1)
    return hp.quniform(leaf.name, low, high, 1)


def _plain(number: Any) -> Any:
    """NumPy's number as Python's."""
    return number.item() if hasattr(number, "item") else number


def _nothing(config: Any) -> None:
    """What Hyperopt is to minimize: it is never called."""
