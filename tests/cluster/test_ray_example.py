"""The example of docs/ray.md: torch workers inside a trial's placement group."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "ray_workers.py"


@pytest.mark.soak
@pytest.mark.usefixtures("one_node")
def test_torch_workers_train_together_and_a_lost_one_costs_no_more_than_an_epoch(tmp_path: Path) -> None:
    if "CI" not in os.environ and importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed here; .ci/run installs it")
    spec = importlib.util.spec_from_file_location("ray_workers", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    results = example.main(str(tmp_path), lr=0.2, loses_a_worker=3)
    assert results.errors == []
    for result in results:
        rows = result.metrics_dataframe
        assert list(rows["training_iteration"]) == list(range(1, example.EPOCHS + 1))
        assert rows["same"].all()
        assert list(rows["begin"]) == [0] * 4 + [4] * 4
        assert rows["loss"].iloc[-1] < rows["loss"].iloc[0] / 2
