"""How much each parameter matters, by Optuna's importance evaluators. Knows configurations and one value for each."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from holdfast.errors import ConfigError, NotFitted

__all__ = ["EVALUATORS", "importances"]

# Name -> Optuna's class, and whether that needs scikit-learn.
EVALUATORS = {
    "fanova": ("FanovaImportanceEvaluator", True),
    "mdi": ("MeanDecreaseImpurityImportanceEvaluator", True),
    "ped_anova": ("PedAnovaImportanceEvaluator", False),
}
_SEED = 0


def importances(
    configs: Sequence[Mapping[str, Any]], values: Sequence[float], mode: str, evaluator: str, parameters: Sequence[str] | None
) -> dict[str, float]:
    """The importance of each parameter, from 0 to 1, together 1; the same at each call.

    A parameter that some trial lacks, or that never changes, is left out: nothing can be told of it.

    Args:
        configs: The flat configurations.
        values: One finite number for each.
        mode: "max" or "min".
        evaluator: One of `EVALUATORS`: fANOVA (Hutter et al. 2014), mean decrease of impurity, PED-ANOVA (Watanabe et al. 2023).
        parameters: Those to look at; None for all.

    Raises:
        ConfigError: No such evaluator, or what it needs is not installed.
        NotFitted: There are too few trials or parameters.
    """
    if evaluator not in EVALUATORS:
        raise ConfigError(f"evaluator={evaluator!r}: one of {', '.join(map(repr, EVALUATORS))}.")
    name, needs_sklearn = EVALUATORS[evaluator]
    missing = [it for it in ("optuna", *(["sklearn"] if needs_sklearn else [])) if find_spec(it) is None]
    if missing:
        raise ConfigError(
            f"Importance by {evaluator!r} needs {' and '.join(missing)}, not installed here: pip install 'holdfast[plot]'."
        )
    import optuna

    known = parameters or list(dict.fromkeys(key for config in configs for key in config))
    columns = {key: [_plain(config[key]) for config in configs] for key in known if all(key in config for config in configs)}
    ranges = {key: span for key, column in columns.items() if (span := _distribution(optuna, column)) is not None}
    if len(configs) < 2 or not ranges or len(set(values)) < 2:
        raise NotFitted(
            "Importance needs two trials or more with different values, and a parameter that all of them have and that is not "
            f"the same in all; of {len(configs)} trials with a value, {sorted(ranges) or 'none'} is."
        )
    was_told = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # that a study is created is no news to who asks for a plot
    try:
        shares = _judged(optuna, (columns, ranges), values, mode, (name, needs_sklearn))
    finally:
        optuna.logging.set_verbosity(was_told)
    return {key: float(share) for key, share in shares.items()}


def _judged(
    optuna: Any,
    table: tuple[dict[str, list[Any]], dict[str, Any]],
    values: Sequence[float],
    mode: str,
    evaluator: tuple[str, bool],
) -> dict[str, Any]:
    (columns, ranges), (name, is_seeded) = table, evaluator
    study = optuna.create_study(direction="maximize" if mode == "max" else "minimize")
    for number, value in enumerate(values):
        params = {key: columns[key][number] for key in ranges}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=ranges, value=value))
    made = getattr(optuna.importance, name)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", optuna.exceptions.ExperimentalWarning
        )  # what is experimental there is asked for by name here
        judge = made(seed=_SEED) if is_seeded else made()
        # In the order of names: Optuna 5.0's "mdi" sorts the ranges and not the names that it gives the results.
        shares: dict[str, Any] = optuna.importance.get_param_importances(study, evaluator=judge, params=sorted(ranges))
    return shares


def _plain(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str)) or value is None else str(value)


def _distribution(optuna: Any, column: list[Any]) -> Any:
    """The range that the values show; None where they are all the same."""
    kinds = {type(value) for value in column}
    if len(set(map(repr, column))) < 2:
        return None
    if kinds <= {int, float}:
        low, high = min(column), max(column)
        wide = low > 0 and high / low >= 100  # most likely drawn on a logarithmic scale
        if kinds == {int}:
            return optuna.distributions.IntDistribution(low, high, log=wide)
        return optuna.distributions.FloatDistribution(float(low), float(high), log=wide)
    return optuna.distributions.CategoricalDistribution(tuple(dict.fromkeys(column)))
