"""Which of the files that attempts write go to the store, where the experiment lives on one.

Knows how logs are called and what is never synced. It does not know who puts the files there: the driver on its own machine, and
engines of several machines on the others.
"""

from __future__ import annotations

from holdfast._worker.logs import KEPT
from holdfast.storage.mirror import Tree

__all__ = ["outgoing"]

_NOT_SYNCED = ("checkpoint_",)
_ENGINES_OWN = ".ray-"  # how the directory is called, among the logs, in which the Ray engine's processes leave word


def outgoing(attempts: str, log_to_file: tuple[str, str] | None, artifacts_s: float | None) -> list[Tree]:
    """What is to be put of the directory below which attempts run.

    Args:
        attempts: That directory, absolute.
        log_to_file: The names that the user gave for stdout and stderr, if any.
        artifacts_s: How many seconds after a look at what trials write the next one follows; None: that stays where it is.
    """
    parts = {part for name in log_to_file or () for part in (name, *(f"{name}.{age}" for age in range(1, KEPT + 1)))}

    def is_log(name: str) -> bool:
        top, _, rest = name.partition("/")
        return (top == "logs" and not rest.startswith(_ENGINES_OWN)) or rest in parts

    # An empty log may be that of an attempt which turned out to run on another machine, whose log is not to be replaced.
    trees = [Tree(attempts, is_log, empty=False)]
    if artifacts_s is not None:
        trees.append(Tree(attempts, _is_artifact, artifacts_s))
    return trees


def _is_artifact(name: str) -> bool:
    top, _, rest = name.partition("/")
    return top != "logs" and not rest.startswith(_NOT_SYNCED)
