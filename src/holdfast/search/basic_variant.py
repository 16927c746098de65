"""The default searcher: random draws and grids.

It knows how often it was asked and nothing else: which configuration comes is a function of that number, the space and
the seed (`holdfast.search.variants`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from holdfast.errors import ConfigError, SearchSpaceError
from holdfast.search.base import Searcher
from holdfast.search.variants import Plan
from holdfast.space import uses_user_functions
from holdfast.space.laws import source_of

__all__ = ["BasicVariantGenerator"]


class BasicVariantGenerator(Searcher):
    """Suggests every combination of a space's grids, `num_samples` times, with fresh draws of all else.

    Asked the same number of times it gives the same configurations, in this process or another: after a crash it goes on exactly.
    With `num_samples=-1` it never finishes; the grid begins anew each time.

    Attributes:
        last_evaluated: Flattened key → value of the last suggestion, only for keys that were domains, grids or `sample_from`:
            what a trial's tag and `evaluated_params` show.
        total: How many suggestions there are in all, None for ever. Known after `set_search_properties`.

    Args:
        points_to_evaluate: Configurations, whole or partial, that take the place of the first samples. What a point leaves
            open is drawn, and its open grids are expanded. Points beyond `num_samples` are tried as well.
        max_concurrent: How many trials may live at once; 0 means any number.
        constant_grid_search: Draw once per sample and keep the draws over the whole grid, instead of anew for each trial.
        random_state: An int, `random.Random`, NumPy `RandomState` or `Generator` whose chance takes the place of the
            experiment's seed.
    """

    CKPT_FILE_TMPL = "basic-variant-state-{}.pkl"
    instant = True

    def __init__(
        self,
        points_to_evaluate: Sequence[dict[str, Any]] | None = None,
        max_concurrent: int = 0,
        constant_grid_search: bool = False,
        random_state: Any = None,
    ) -> None:
        super().__init__()
        points = list(points_to_evaluate or ())
        if any(not isinstance(point, dict) for point in points):
            raise SearchSpaceError("points_to_evaluate must be a list of dictionaries, each a configuration or a part of one.")
        if max_concurrent < 0:
            raise ConfigError(f"max_concurrent must be 0 or more, not {max_concurrent}.")
        self.max_concurrent = max_concurrent
        self.last_evaluated: dict[str, Any] = {}
        self._points = points
        self._constant = constant_grid_search
        self.own_seed = None if random_state is None else _seed_of(random_state)
        self._plans: list[Plan] = []  # one after another: that of the job as submitted, and those of its extensions
        self._space: dict[str, Any] = {}
        self._calls_user = False
        self._seed = 0
        self._asked = 0
        self._live: set[str] = set()

    @property
    def own_chance(self) -> bool:  # type: ignore[override]  # a constant in most searchers
        """Whether all chance comes from its own generator: not where functions in the space may draw from the global ones."""
        return not self._calls_user

    @property
    def by_number(self) -> bool:  # type: ignore[override]  # a constant in most searchers
        """Whether nothing but the number of the question counts: not where `max_concurrent` holds trials back."""
        return not self.max_concurrent

    def skip(self) -> None:
        """Passes over one suggestion."""
        self._asked += 1

    @property
    def total(self) -> int | None:
        """How many suggestions there are in all; None for ever."""
        return self._ready()[-1].total

    @property
    def total_samples(self) -> int:
        """Ray Tune's name for `total`; 0 before the space is known, -1 for ever."""
        total = self._plans[-1].total if self._plans else 0
        return -1 if total is None else total

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Takes the space, `num_samples` (default 1) and the experiment's `seed` (default 0); begins anew."""
        self._metric = metric
        self._mode = mode
        self._seed = self.own_seed if self.own_seed is not None else int(spec.get("seed", 0)) % 2**128
        self._plans = [Plan(config, spec.get("num_samples", 1), self._points, self._constant, self._seed)]
        self._space, self._calls_user = config, uses_user_functions(config)
        self._asked = 0
        self._live.clear()
        return True

    def extend(self, num_samples: int, space: dict[str, Any] | None) -> bool:
        """Adds samples behind those that are to come anyway; without an end, a new space takes over at once."""
        endless = self.total is None
        if endless and num_samples:
            return False
        if endless and space is not None:
            self._plans[-1].total = self._asked
        elif not num_samples:
            return space is None
        self._space = self._space if space is None else space
        self._calls_user = self._calls_user or uses_user_functions(self._space)
        first = self._plans[-1].total or 0
        self._plans.append(Plan(self._space, -1 if endless else num_samples, (), self._constant, self._seed, first))
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        plan = next((plan for plan in self._ready() if plan.total is None or self._asked < plan.total), None)
        if plan is None:
            return self.FINISHED
        if self.max_concurrent:
            if len(self._live) >= self.max_concurrent:
                return None
            self._live.add(trial_id)
        config, self.last_evaluated = plan.variant(self._asked)
        self._asked += 1
        return config

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._live.discard(trial_id)

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        self.max_concurrent = max_concurrent
        return True

    def get_state(self) -> dict[str, Any]:
        """How often it was asked, which trials live, its own seed; not the space, which `set_search_properties` gives."""
        return {
            "asked": self._asked,
            "live": sorted(self._live),
            "own_seed": self.own_seed,
            "last_evaluated": self.last_evaluated,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on where `get_state` was taken; call it after `set_search_properties`."""
        if state["own_seed"] != self.own_seed:
            raise ConfigError("This state belongs to a BasicVariantGenerator with another random_state; create it with that one.")
        self._asked = state["asked"]
        self._live = set(state["live"])
        self.last_evaluated = state["last_evaluated"]

    def _ready(self) -> list[Plan]:
        if not self._plans:
            raise SearchSpaceError("No search space was given yet: call set_search_properties(metric, mode, param_space) first.")
        return self._plans


def _seed_of(random_state: Any) -> int:
    if hasattr(random_state, "__index__"):
        return int(random_state) % 2**128
    source = source_of(random_state)
    return int(source.random() * 2**53) << 53 | int(source.random() * 2**53)
