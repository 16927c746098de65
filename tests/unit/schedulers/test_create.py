"""Schedulers by name."""

from __future__ import annotations

import pytest

import holdfast as tune
from holdfast.errors import ConfigError
from holdfast.schedulers import ASHAScheduler, FIFOScheduler, create_scheduler


def test_names_in_any_case_with_their_arguments() -> None:
    scheduler = create_scheduler("ASHA", metric="loss", mode="min", max_t=9)
    assert isinstance(scheduler, ASHAScheduler)
    assert scheduler.metric == "loss"
    assert isinstance(create_scheduler("fifo"), FIFOScheduler)
    assert create_scheduler(scheduler) is scheduler
    assert isinstance(tune.TuneConfig(scheduler="async_hyperband").scheduler, ASHAScheduler)


def test_arguments_that_it_does_not_take_are_named() -> None:
    with pytest.warns(UserWarning, match="FIFOScheduler takes no max_t, metric"):
        assert isinstance(create_scheduler("fifo", metric="loss", max_t=3), FIFOScheduler)


@pytest.mark.parametrize("name", ["sha", "", None, 7])
def test_an_unknown_name_lists_those_that_there_are(name) -> None:
    with pytest.raises(ConfigError, match=r"There are: asha, .*fifo"):
        create_scheduler(name)
