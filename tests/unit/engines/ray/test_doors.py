"""Whether somebody listens, by real sockets on loopback."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from holdfast.engines.ray.doors import Doors


@pytest.fixture
def doors() -> Iterator[Doors]:
    doors = Doors()
    yield doors
    doors.close()


def listening(host: str = "127.0.0.1") -> socket.socket:
    return socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)


def knocked(doors: Doors, **at: tuple[str, int]) -> set[str]:
    doors.knock(at, at)
    time.sleep(0.05)
    return doors.refused()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_who_listened_and_does_not_any_more_refuses(doors: Doors, host: str) -> None:
    with listening(host) as server, listening(host) as other:
        address, others = server.getsockname()[:2], other.getsockname()[:2]
        assert knocked(doors, lost=address, there=others) == set()
        server.close()
        assert knocked(doors, lost=address, there=others) == {"lost"}
        assert doors.refused() == set(), "said once"


def test_who_is_not_watched_is_knocked_at_until_it_has_been_open(doors: Doors) -> None:
    with listening() as server:
        address = server.getsockname()
        doors.knock({"idle": address}, ())
        time.sleep(0.05)
        assert doors.refused() == set()
        doors.knock({"idle": address}, ())
        assert doors._knocks == {}
    assert knocked(doors, idle=address) == {"idle"}, "as soon as it is watched"


def test_who_never_listened_is_not_held_for_lost(doors: Doors) -> None:
    with listening() as server:
        address = server.getsockname()
    assert [knocked(doors, other=address) for _ in range(2)] == [set(), set()]


def test_a_host_that_nobody_knows_is_not_held_for_lost(doors: Doors) -> None:
    assert [knocked(doors, other=("no-such-host.invalid", 1)) for _ in range(2)] == [set(), set()]


def test_who_does_not_answer_is_not_held_for_lost_and_not_waited_for(doors: Doors) -> None:
    with listening() as server, socket.socket() as first, socket.socket() as second:
        address = server.getsockname()
        assert knocked(doors, slow=address) == set()
        server.listen(0)
        for taken in (first, second):  # the queue is full: the kernel drops what else would connect, as a cut network does
            taken.setblocking(False)
            taken.connect_ex(address)
        began = time.monotonic()
        assert [knocked(doors, slow=address) for _ in range(3)] == [set()] * 3
        assert time.monotonic() - began < 1.0
        assert len(doors._knocks) == 1
