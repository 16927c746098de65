"""`ResumeConfig`: what a restored run does with the trials that it finds."""

from __future__ import annotations

import enum

from holdfast.config.checks import Shown
from holdfast.errors import ConfigError

__all__ = ["ResumeConfig"]


class ResumeConfig(Shown):
    """What a restored run does with the trials that it finds, by their state.

    Args:
        finished: Of trials that ended; SKIP by default.
        unfinished: Of trials that were pending, running or paused; RESUME by default. SKIP ends them with what they have.
        errored: Of trials that failed for good; SKIP by default. RESUME goes on from the newest checkpoint with a
            fresh budget of failures, RESTART begins anew in a new directory.
    """

    class ResumeType(enum.Enum):
        """What is done with a trial."""

        RESUME = "resume"
        RESTART = "restart"
        SKIP = "skip"

    finished: ResumeType
    unfinished: ResumeType
    errored: ResumeType

    def __init__(
        self,
        finished: ResumeType | str = ResumeType.SKIP,
        unfinished: ResumeType | str = ResumeType.RESUME,
        errored: ResumeType | str = ResumeType.SKIP,
    ) -> None:
        try:
            self.finished = self.ResumeType(finished)
            self.unfinished = self.ResumeType(unfinished)
            self.errored = self.ResumeType(errored)
        except ValueError as error:
            raise ConfigError(f"ResumeConfig: {error}; use ResumeConfig.ResumeType.RESUME, RESTART or SKIP.") from None
