from __future__ import annotations

from holdfast._core.ids import checkpoint_name, order_id, trial_id


def test_names_have_ray_tunes_form() -> None:
    assert trial_id("3f2a1", 4) == "3f2a1_00004"
    assert checkpoint_name(12) == "checkpoint_000012"


def test_an_order_is_named_by_epoch_position_and_number() -> None:
    assert order_id(2, 17, 0) == "2.17.0"
    assert order_id(3, 17, 0) != order_id(2, 17, 0)
