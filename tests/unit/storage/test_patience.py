from __future__ import annotations

import errno

import pytest

from holdfast.errors import StorageError
from holdfast.storage.patience import AskAgain, Patience


class Clock:
    """Time that passes by sleeping alone."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class GenericError(Exception):
    """By this name obstore calls whatever it has no better name for."""


@pytest.fixture
def refreshed() -> list[str]:
    return []


@pytest.fixture
def patience(refreshed: list[str]) -> Patience:
    return Patience("s3://bucket/x", 4.0, Clock(), lambda: refreshed.append("once"))


def failing(*errors: Exception):
    left = list(errors)

    def attempt() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return attempt


def answered(status: int, code: str = "") -> GenericError:
    return GenericError(
        f"Error performing PUT http://host/key in 1ms - Server returned non-2xx status code: {status} Words: {code}"
    )


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504])
def test_what_passes_is_asked_again(patience, status):
    assert (
        patience.call("create", "k", failing(answered(status), AskAgain("no"), GenericError("error sending request"))) == "done"
    )


@pytest.mark.parametrize("status", [400, 405, 411, 501])
def test_what_does_not_pass_is_refused_at_once(patience, refreshed, status):
    with pytest.raises(StorageError, match=f"cannot create s3://bucket/x/k: the store answered {status} Why"):
        patience.call("create", "k", failing(answered(status, "<Code>Why</Code>")))
    assert refreshed == []


@pytest.mark.parametrize(
    "error", [answered(400, "<Code>ExpiredToken</Code>"), GenericError("PUT http://169.254.169.254/latest/api/token timed out")]
)
def test_credentials_are_read_anew_once(patience, refreshed, error):
    assert patience.call("create", "k", failing(error)) == "done"
    assert refreshed == ["once"]
    with pytest.raises(StorageError, match="Give this process credentials") as caught:
        patience.call("create", "k", failing(error, error))
    assert caught.value.errno == errno.EACCES


def test_what_is_not_there_is_told_at_once(patience):
    with pytest.raises(FileNotFoundError):
        patience.call("read", "k", failing(FileNotFoundError("GET http://host/key 404")))


@pytest.mark.parametrize(
    "error",
    [
        GenericError("status code: 404 Not Found: <Code>ContainerNotFound</Code>"),
        FileNotFoundError("GET http://host/key status code: 404: <Code>NoSuchBucket</Code>"),
        FileNotFoundError("Error performing PUT http://host/key: status code: 404"),
    ],
)
def test_a_bucket_that_is_not_there_is_an_error_of_its_own(patience, error):
    with pytest.raises(StorageError, match="no such bucket") as caught:
        patience.call("read", "k", failing(error))
    assert caught.value.errno == errno.ENOENT
