"""Patience: calling a store again that failed for a reason which passes, with back-off and jitter, up to a bound.

Knows what obstore's errors mean: absent, taken, refused for good, or worth another try. It refuses to know what is stored, and
lets nothing of an error's own text through but the status and the store's error code: the rest may hold credentials.
"""

from __future__ import annotations

import errno
import random
import re
import warnings
from collections.abc import Callable
from typing import TypeVar

from holdfast.clock import Clock
from holdfast.errors import StorageError

__all__ = ["AskAgain", "Patience"]

T = TypeVar("T")

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 10.0
_SAY_AFTER_S = 5.0
_PASSES = frozenset([408, 409, 425, 429, 500, 502, 503, 504])
_CREDENTIALS = frozenset(["ExpiredToken", "ExpiredTokenException", "InvalidToken", "RequestExpired", "TokenRefreshRequired"])
_NO_BUCKET = frozenset(["NoSuchBucket", "ContainerNotFound"])
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,64})</Code>")
_METADATA_SERVER = "169.254.169.254"  # asked for credentials by the clients of S3 and Azure when nothing else gives any


class AskAgain(Exception):
    """The store gave no answer to go by; the same call may be made again. Stays inside the storage package."""


class Patience:
    """How long and how often a store that fails is asked again.

    Args:
        root: The experiment's place, as it may be shown.
        limit_s: Seconds from the first failure of a call until it is given up.
        clock: Measures that, and sleeps.
        refresh: Reads the credentials anew; called once when a call was denied.
    """

    def __init__(self, root: str, limit_s: float, clock: Clock, refresh: Callable[[], None]) -> None:
        self._root = root
        self._limit_s = limit_s
        self._clock = clock
        self._refresh = refresh
        self._chance = random.Random()  # for jitter: drivers that fail together must not come back together

    def call(self, doing: str, path: str, attempt: Callable[[], T]) -> T:
        """What `attempt` returns, once it does.

        Raises:
            FileNotFoundError: There is no such object.
            StorageError: The store refuses for good, there is no such bucket, or has failed for `limit_s`.
        """
        began: float | None = None
        pause, tries, refreshed, said = _FIRST_PAUSE_S, 0, False, False
        while True:
            tries += 1
            try:
                return attempt()
            except Exception as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise  # this machine's own disk: obstore's errors carry no number
                if _no_bucket(error):
                    raise self._refused(error, doing, path, "there is no such bucket or container") from None
                if isinstance(error, FileNotFoundError):
                    raise FileNotFoundError(errno.ENOENT, "no such object", f"{self._root}/{path}") from None
                reason = _reason(error)
                if _denied(error) and not refreshed:
                    refreshed = True
                    self._refresh()
                    continue
                if not _passes(error):
                    raise self._refused(error, doing, path, reason) from None
            now = self._clock.monotonic()
            began = now if began is None else began
            if now - began + pause > self._limit_s:
                raise StorageError(
                    errno.ETIMEDOUT,
                    f"cannot {doing} {self._root}/{path}: the store has failed for {now - began:.0f} s ({tries} tries; the last: "
                    f"{reason}). What was acknowledged is kept; restore when the store can be reached.",
                )
            if not said and now - began >= _SAY_AFTER_S:
                said = True
                warnings.warn(
                    f"{self._root} does not answer as it should ({reason}); holdfast goes on trying for "
                    f"{self._limit_s - (now - began):.0f} s.",
                    stacklevel=3,
                )
            self._clock.sleep(pause * self._chance.uniform(0.5, 1.0))
            pause = min(_LONGEST_PAUSE_S, 2 * pause)

    def _refused(self, error: Exception, doing: str, path: str, reason: str) -> StorageError:
        number, hint = errno.EIO, "What was acknowledged is kept; restore when the cause is mended."
        if _denied(error):
            number = errno.EACCES
            hint = (
                "Give this process credentials that may do so: the cloud's usual environment variables or, for S3, a profile in "
                "~/.aws/credentials."
            )
        elif _no_bucket(error):
            number, hint = errno.ENOENT, "Create it, or name another in storage_path."
        elif _status(error) == 501:
            number = errno.ENOTSUP
            hint = "This store cannot do what a journal needs; choose another storage_path."
        return StorageError(number, f"cannot {doing} {self._root}/{path}: {reason}. {hint}")


def _status(error: Exception) -> int:
    found = _STATUS.search(str(error))
    return int(found[1]) if found else 0


def _code(error: Exception) -> str:
    found = _CODE.search(str(error))
    return found[1] if found else ""


def _no_bucket(error: Exception) -> bool:
    """Never to be taken for a bucket that holds nothing."""
    return _code(error) in _NO_BUCKET or (_code(error) == "" and isinstance(error, FileNotFoundError) and " PUT " in str(error))


def _denied(error: Exception) -> bool:
    kind = type(error).__name__
    return kind in ("UnauthenticatedError", "PermissionDeniedError") or _code(error) in _CREDENTIALS or _no_credentials(error)


def _no_credentials(error: Exception) -> bool:
    return _METADATA_SERVER in str(error)


def _passes(error: Exception) -> bool:
    """Whether the same call may succeed later. Without a status there was no reply: refused, reset, or timed out."""
    if isinstance(error, AskAgain):
        return True
    if type(error).__name__ in ("NotSupportedError", "InvalidPathError", "UnknownConfigurationKeyError", "ValueError"):
        return False
    return not _denied(error) and (_status(error) in _PASSES or not _status(error)) and "builder error" not in str(error)


def _reason(error: Exception) -> str:
    """What is said of an error: never its own text, which holds URLs and may hold what signs them."""
    if isinstance(error, AskAgain):
        return str(error)
    if _no_credentials(error):
        return "no credentials were found"
    status, code = _status(error), _code(error)
    if status:
        return f"the store answered {status}{f' {code}' if code else ''}"
    if "builder error" in str(error):
        return "the request cannot be made; check endpoint_override and scheme"
    if type(error).__name__ in ("GenericError", "JoinError"):
        return "no reply (connection refused, lost or timed out)"
    return type(error).__name__
