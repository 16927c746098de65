"""What a driver of an older epoch may have left running on this host, ended by its token.

This module knows tokens only; which epochs are over is for recovery to know.
"""

from __future__ import annotations

from holdfast._worker.processes import end_with_token
from holdfast.errors import ConfigError

__all__ = ["end_leftovers"]


def end_leftovers(token_prefix: str) -> list[int]:
    """Kills this user's processes whose `HOLDFAST_TOKEN` begins with `token_prefix`, until none is left.

    Tokens are `<experiment id>.<place>.<epoch>`: end the prefix with "." to mean all epochs, give the whole token to mean one
    (then epoch 1 also means 10, 11, ...: those are later, and recovery runs before they begin). This process and its
    ancestors are spared. Returns the pids that were killed.

    Raises:
        ConfigError: The prefix is empty: it would mean every experiment's workers.
    """
    if not token_prefix:
        raise ConfigError("end_leftovers() needs a token: an empty one would end the workers of every experiment.")
    return end_with_token(token_prefix)
