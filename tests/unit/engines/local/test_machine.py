"""What the machine is said to have."""

from __future__ import annotations

import os

import pytest

from holdfast.engines.local import LocalEngine
from holdfast.engines.local.machine import available_cpus, host_and_address
from holdfast.errors import ConfigError


def test_cpus_are_bounded_by_where_the_process_may_run() -> None:
    assert 1.0 <= available_cpus() <= len(os.sched_getaffinity(0))


def test_what_the_user_says_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_CPUS", "7.5")
    assert LocalEngine().resources() == {"cpu": 7.5}
    assert LocalEngine(cpus=3).resources() == {"cpu": 3.0}
    monkeypatch.delenv("HOLDFAST_CPUS")
    assert LocalEngine().resources() == {"cpu": available_cpus()}


@pytest.mark.parametrize("cpus", [0, -1])
def test_no_cpus_are_refused(cpus: float) -> None:
    with pytest.raises(ConfigError, match="more than 0"):
        LocalEngine(cpus=cpus)


def test_the_address_is_one() -> None:
    host, address = host_and_address()
    assert host
    assert len(address.split(".")) == 4
