"""What the machine is said to have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from holdfast.engines.local import LocalEngine, machine
from holdfast.engines.local.machine import available_cpus, available_memory, host_and_address, oom_kills
from holdfast.errors import ConfigError


def test_cpus_are_bounded_by_where_the_process_may_run() -> None:
    assert 1.0 <= available_cpus() <= len(os.sched_getaffinity(0))


def test_memory_is_bounded_by_what_the_machine_has() -> None:
    assert 0 < available_memory() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_what_the_user_says_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_CPUS", "7.5")
    assert LocalEngine().resources() == {"cpu": 7.5, "memory": available_memory()}
    assert LocalEngine(cpus=3).resources() == {"cpu": 3.0, "memory": available_memory()}
    monkeypatch.delenv("HOLDFAST_CPUS")
    assert LocalEngine().resources() == {"cpu": available_cpus(), "memory": available_memory()}


def test_gpus_and_custom_resources_exist_where_somebody_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_GPUS", "2")
    monkeypatch.setenv("HOLDFAST_RESOURCES", '{"hdd": 80, "memory": 1000}')
    assert LocalEngine(cpus=1).resources() == {"cpu": 1.0, "gpu": 2.0, "hdd": 80.0, "memory": 1000.0}
    said = LocalEngine(cpus=1, gpus=0, resources={"ssd": 3}).resources()
    assert said == {"cpu": 1.0, "ssd": 3.0, "memory": available_memory()}


@pytest.mark.parametrize("cpus", [0, -1, float("nan"), float("inf")])
def test_no_cpus_are_refused(cpus: float) -> None:
    with pytest.raises(ConfigError, match="more than 0"):
        LocalEngine(cpus=cpus)


@pytest.mark.parametrize(
    "amounts", [{"gpus": -1}, {"resources": {"hdd": -2}}, {"resources": {"hdd": float("nan")}}, {"resources": {"CPU": 4}}]
)
def test_amounts_that_cannot_be_are_refused(amounts: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="LocalEngine"):
        LocalEngine(cpus=1, **amounts)


@pytest.mark.parametrize(
    ("name", "text"),
    [("HOLDFAST_CPUS", "many"), ("HOLDFAST_GPUS", "x"), ("HOLDFAST_RESOURCES", "hdd"), ("HOLDFAST_RESOURCES", '{"hdd": true}')],
)
def test_a_setting_that_is_no_number_is_named(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(ConfigError, match=name):
        LocalEngine()


def test_the_address_is_one() -> None:
    host, address = host_and_address()
    assert host
    assert len(address.split(".")) == 4


MANY = 1000.0


class Groups:
    """A machine of whatever control groups one likes, with a thousand CPUs."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def lines(self, *lines: str) -> None:
        """What /proc/self/cgroup says."""
        (self.root / "proc/self").mkdir(parents=True)
        (self.root / "proc/self/cgroup").write_text("".join(f"{line}\n" for line in lines))

    def write(self, path: str, text: str) -> None:
        """A file below /sys/fs/cgroup, or below /proc."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Groups:
    monkeypatch.setattr(machine, "_PROC", str(tmp_path / "proc"))
    monkeypatch.setattr(machine, "_CGROUP", str(tmp_path / "cgroup"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(int(MANY))))
    return Groups(tmp_path)


def test_a_quota_of_the_second_version_bounds_cpus_and_memory(groups: Groups) -> None:
    groups.lines("0::/job/step")
    groups.write("cgroup/job/step/cpu.max", "250000 100000")
    groups.write("cgroup/job/step/memory.max", "1000")
    assert (available_cpus(), available_memory()) == (2.0, 1000.0)


def test_so_does_one_of_a_group_above(groups: Groups) -> None:
    groups.lines("0::/job/step/task")
    groups.write("cgroup/job/step/task/cpu.max", "max 100000")
    groups.write("cgroup/job/step/cpu.max", "800000 100000")
    groups.write("cgroup/job/cpu.max", "300000 100000")
    groups.write("cgroup/job/step/task/memory.max", "max")
    groups.write("cgroup/job/memory.max", "5000")
    assert (available_cpus(), available_memory()) == (3.0, 5000.0)


def test_a_container_sees_its_own_group_as_the_root(groups: Groups) -> None:
    groups.lines("0::/../elsewhere")
    groups.write("cgroup/cpu.max", "400000 100000")
    assert available_cpus() == 4.0


def test_a_quota_of_the_first_version_bounds_too(groups: Groups) -> None:
    groups.lines("4:memory:/slice/job", "3:cpu,cpuacct:/slice", "1:name=systemd:/", "0::/")
    groups.write("cgroup/cpu/slice/cpu.cfs_quota_us", "150000")
    groups.write("cgroup/cpu/slice/cpu.cfs_period_us", "50000")
    groups.write("cgroup/cpu/cpu.cfs_quota_us", "-1")
    groups.write("cgroup/cpu/cpu.cfs_period_us", "100000")
    groups.write("cgroup/memory/slice/job/memory.limit_in_bytes", "9223372036854771712")
    groups.write("cgroup/memory/slice/memory.limit_in_bytes", "7000")
    assert (available_cpus(), available_memory()) == (3.0, 7000.0)


def test_less_than_a_cpu_is_one(groups: Groups) -> None:
    groups.lines("0::/")
    groups.write("cgroup/cpu.max", "50000 100000")
    assert available_cpus() == 1.0


def test_without_groups_there_is_what_the_process_may_run_on(groups: Groups) -> None:
    assert available_cpus() == MANY


def test_the_kernels_kills_are_counted_in_the_nearest_group_that_counts(groups: Groups) -> None:
    groups.lines("4:memory:/job", "0::/job")
    groups.write("proc/vmstat", "nr_free_pages 12\noom_kill 90")
    assert oom_kills() == 90
    groups.write("cgroup/memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 7")
    assert oom_kills() == 7
    groups.write("cgroup/memory/job/memory.oom_control", "oom_kill_disable 0\nunder_oom 0")
    assert oom_kills() == 7
    groups.write("cgroup/memory/job/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3")
    assert oom_kills() == 3


def test_the_second_version_counts_events(groups: Groups) -> None:
    groups.lines("0::/job/step")
    groups.write("cgroup/job/memory.events", "low 0\nhigh 0\nmax 4\noom 2\noom_kill 5\noom_group_kill 1")
    assert oom_kills() == 5
