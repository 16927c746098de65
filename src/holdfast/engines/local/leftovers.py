"""What drivers of older epochs may have left running on this host, ended by its token.

This module knows tokens only; which epochs are over is for recovery to know.
"""

from __future__ import annotations

from holdfast._worker.processes import end_with_token
from holdfast.errors import ConfigError

__all__ = ["end_leftovers"]


def end_leftovers(tokens: str, before: int) -> list[int]:
    """Kills this user's processes that epochs before one have left, until none is left.

    Those of that epoch and of later ones are spared: whoever asks may have been stopped for long, and overtaken. So are this
    process and its ancestors.

    Args:
        tokens: What the experiment's tokens begin with; the epoch follows, and ends them.
        before: The epoch.

    Returns:
        The pids that were killed.

    Raises:
        ConfigError: `tokens` is empty: that would mean every experiment's workers.
    """
    if not tokens:
        raise ConfigError("end_leftovers() needs a token: an empty one would end the workers of every experiment.")

    def is_older(token: str) -> bool:
        epoch = token.removeprefix(tokens)
        return token.startswith(tokens) and epoch.isdecimal() and int(epoch) < before

    return end_with_token(is_older)
