"""Faults between holdfast and a store: the port's promises hold through them."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Iterator

import pytest

import object_servers
from fault_proxy import FaultProxy
from holdfast.errors import StorageError
from holdfast.storage.object_store import ObjectStorage
from holdfast.storage.uri import open_place, parse

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("object servers")]


class Jumping:
    """Time that passes by sleeping alone."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with object_servers.fake_gcs() as server:
        yield server.port


Opener = Callable[..., tuple[ObjectStorage, FaultProxy]]


@pytest.fixture
def behind(port: int, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Opener]:
    """Opens a storage behind a proxy with the given fate."""
    monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "hidden")
    proxies: list[FaultProxy] = []

    def opened(fate: Callable[[int, str], str], **options: object) -> tuple[ObjectStorage, FaultProxy]:
        proxy = FaultProxy(port, fate).__enter__()
        proxies.append(proxy)
        place = parse(f"gs://bucket/{request.node.name}?endpoint_override=127.0.0.1:{proxy.port}&scheme=http")
        return open_place(place, **{"clock": Jumping(), **options}), proxy

    yield opened
    for proxy in proxies:
        proxy.__exit__()


PASSING = ["drop before", "drop after", "503", "429", "409", "500"]


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize("times", [1, 3])
def test_who_creates_is_told_so_whatever_happens_on_the_way(behind: Opener, fault: str, times: int) -> None:
    storage, proxy = behind(lambda number, request: fault if request.startswith("PUT") and number <= 2 * times else "")
    assert storage.put_if_absent("x", b"mine")
    assert [did for _, did in proxy.log].count(fault) >= times
    assert storage.read("x") == b"mine"
    assert not storage.put_if_absent("x", b"mine")


@pytest.mark.parametrize("fault", PASSING)
def test_who_comes_second_is_told_so_whatever_happens_on_the_way(behind: Opener, fault: str) -> None:
    first, _ = behind(lambda *_: "")
    assert first.put_if_absent("x", b"theirs")
    storage, _ = behind(lambda number, request: fault if number in (1, 3) else "")
    assert not storage.put_if_absent("x", b"mine")
    assert storage.read("x") == b"theirs"


@pytest.mark.parametrize("fault", ["drop before", "drop after", "503", "429", "truncate"])
def test_reading_goes_on_trying(behind: Opener, fault: str) -> None:
    storage, proxy = behind(lambda *_: "")
    storage.put("d/x", bytes(1000))
    chance = random.Random(20261128)
    proxy.fate = lambda number, request: fault if chance.random() < 0.25 else ""
    assert storage.read("d/x", 1) == bytes(999)
    assert storage.names("d") == ["x"]
    assert storage.exists("d/x")
    assert storage.exists("d")
    storage.delete("d")
    assert not storage.exists("d/x")
    assert fault in [did for _, did in proxy.log]


@pytest.mark.parametrize("fault", ["503", "drop before", "drop after"])
def test_many_removals_do_not_begin_anew_for_each_that_fails(behind: Opener, fault: str) -> None:
    """Google's storage removes one object in a request; of as many as one likes each fails at times."""
    storage, proxy = behind(lambda number, request: fault if request.startswith("DELETE") and number % 3 == 0 else "")
    paths = [f"d/{number}" for number in range(40)]
    for path in paths:
        storage.put(path, b"")
    storage.delete_files([*paths[:30], "d/never"])
    assert storage.names("d") == sorted(name.removeprefix("d/") for name in paths[30:])
    storage.delete("d")
    assert storage.names("d") == []
    assert len([request for request, _ in proxy.log if request.startswith("DELETE")]) < 300


def test_a_store_that_stays_away_is_given_up_and_told_of_before(behind: Opener) -> None:
    clock = Jumping()
    storage, proxy = behind(lambda *_: "503", clock=clock, patience_s=60.0)
    with (
        pytest.warns(UserWarning, match=r"gs://bucket/.* does not answer as it should \(the store answered 503\)"),
        pytest.raises(StorageError, match=r"failed for \d+ s .*the store answered 503.*restore when") as caught,
    ):
        storage.put_if_absent("x", b"")
    assert caught.value.errno == errno.ETIMEDOUT
    assert 40 < clock.now <= 60
    assert 8 < len(proxy.log) < 30  # with back-off, not in a tight loop


def test_what_is_denied_is_tried_once_more_with_the_credentials_as_they_are_now(behind: Opener, monkeypatch) -> None:
    seen = []

    def fate(number: int, request: str) -> str:
        seen.append(number)
        monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "renewed")
        return "403" if number == 1 else ""

    storage, proxy = behind(fate)
    assert storage.put_if_absent("x", b"")
    assert len(proxy.log) == 2
    proxy.fate = lambda *_: "403"
    with pytest.raises(StorageError, match=r"the store answered 403.* Give this process credentials") as caught:
        storage.put_if_absent("y", b"")
    assert caught.value.errno == errno.EACCES
    assert len(proxy.log) == 4


def test_no_secret_is_in_an_error(behind: Opener, monkeypatch) -> None:
    storage, proxy = behind(lambda *_: "403")
    for fate in ("403", "400", "501"):
        proxy.fate = lambda *_, fate=fate: fate
        with pytest.raises(StorageError) as caught:
            storage.put_if_absent("x", b"")
        assert "hidden" not in str(caught.value)
        assert "127.0.0.1" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
