"""Stop rules on values of every kind."""

from __future__ import annotations

import numpy as np
import pytest

import holdfast as tune
from holdfast.engines.simulated import SimulatedEngine


@pytest.mark.parametrize("odd", [None, "text", float("nan"), [1, 2], np.arange(3)])
def test_a_value_that_cannot_be_compared_has_not_reached_its_bound(odd, tmp_path):
    def train(config):
        for i in range(5):
            yield {"loss": odd if i < 3 else 9.0}

    run = tune.RunConfig(storage_path=tmp_path, name="odd", verbose=0, stop={"loss": 5}, engine=SimulatedEngine(1))
    (result,) = tune.Tuner(train, run_config=run).fit()
    assert result.error is None
    assert result.metrics["training_iteration"] == 4
