"""References of Ray's store, datasets of Ray Data, and objects of `holdfast.put`, in experiments on a Ray cluster."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import holdfast as tune
from holdfast.errors import ConfigError

pytestmark = pytest.mark.usefixtures("one_node")


def quiet(tmp_path: Path, **changes: Any) -> tune.RunConfig:
    return tune.RunConfig(**{"name": "exp", "storage_path": str(tmp_path), "verbose": 0, **changes})


def summed(config: dict[str, Any]) -> dict[str, float]:
    import ray

    data = [config["plain"], config["drawn"], config["grid"], config["nested"]["list"][0]]
    return {"sum": float(sum(np.sum(part) for part in ray.get(data)))}


def space(scale: float) -> dict[str, Any]:
    import ray

    return {
        "plain": ray.put(np.full(3, 1.0 * scale)),
        "drawn": tune.choice([ray.put(np.full(3, 10.0 * scale))]),
        "grid": tune.grid_search([ray.put(np.full(3, 100.0 * scale)), ray.put(np.full(3, 1000.0 * scale))]),
        "nested": {"list": [ray.put(np.full(3, 10000.0 * scale))]},
    }


class Interrupts(tune.Callback):
    """Ends the driver when the first trial has ended, once."""

    def __init__(self, flag: str) -> None:
        self.flag = flag

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if not Path(self.flag).exists():
            Path(self.flag).touch()
            raise RuntimeError("as told")


def test_references_of_ray_are_found_everywhere_in_a_space_and_are_given_again_on_restore(tmp_path: Path) -> None:
    config = tune.TuneConfig(max_concurrent_trials=1)
    job = tune.Tuner(
        summed,
        param_space=space(1),
        tune_config=config,
        run_config=quiet(tmp_path, callbacks=[Interrupts(str(tmp_path / "flag"))]),
    )
    with pytest.raises(RuntimeError, match="as told"):
        job.fit()
    path = str(tmp_path / "exp")
    with pytest.raises(ConfigError, match=r"references at \['plain', 'drawn\[0\]', 'grid\[0\]', 'grid\[1\]', 'nested/list"):
        tune.Tuner.restore(path, summed).fit()
    results = tune.Tuner.restore(path, summed, param_space=space(2)).fit()
    assert sorted(result.metrics["sum"] for result in results) == [
        3 * 10111.0,
        3 * 22022.0,
    ]  # the first was over, the second is new


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray Data sets what it has deprecated
def test_datasets_of_the_guide_are_iterated_in_trials_and_are_given_again_on_restore(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "ray.md").read_text(encoding="utf-8").replace("/nfs/results", str(tmp_path))
    first, again = [
        block for block in re.findall(r"^```\n(.*?)^```$", guide, re.DOTALL | re.MULTILINE) if "ray.data.range" in block
    ]
    names: dict[str, Any] = {"told": [Interrupts(str(tmp_path / "flag"))]}
    interrupted = first.replace("RunConfig(", "RunConfig(callbacks=told, ")
    assert interrupted != first
    with pytest.raises(RuntimeError, match="as told"):
        exec(interrupted, names)
    with pytest.raises(ConfigError, match=r"references at \['datasets/train\[0\]', 'datasets/train\[1\]'\]"):
        tune.Tuner.restore(str(tmp_path / "exp"), names["train"]).fit()
    exec(again, names)
    assert names["results"].errors == []
    assert sorted(result.metrics["total"] for result in names["results"]) == [sum(range(100)), sum(range(200))]


def test_another_engine_refuses_references_of_ray(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"references of Ray's store, or datasets, at \['plain'.*engine='ray'"):
        tune.Tuner(summed, param_space=space(1), run_config=quiet(tmp_path, engine="local")).fit()


def test_what_was_put_is_read_from_another_machine_through_rays_store(tmp_path: Path) -> None:
    def trainable(config: dict[str, Any], data: Any) -> dict[str, float]:
        return {"sum": float(np.sum(data) + np.sum(tune.get(config["table"])))}

    class FarAway:
        """As `trainable`, on a machine where the driver's process cannot be reached."""

        def __call__(self, config: dict[str, Any]) -> dict[str, float]:
            from holdfast import objects

            objects.ObjectRef._map = lambda self: (_ for _ in ()).throw(self._lost("another machine"))
            return {"sum": float(np.sum(tune.get(config["table"])))}

    table = tune.put(np.arange(1000.0))
    near = tune.with_parameters(trainable, data=np.ones(7))
    results = tune.Tuner(near, param_space={"table": table}, run_config=quiet(tmp_path / "near")).fit()
    assert results[0].metrics["sum"] == 7 + 499500.0
    results = tune.Tuner(FarAway(), param_space={"table": table}, run_config=quiet(tmp_path / "far")).fit()
    assert results.errors == []
    assert results[0].metrics["sum"] == 499500.0
