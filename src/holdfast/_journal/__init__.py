"""The journal: every fact of an experiment, in order, in files that no crash can make lie.

`create` writes the birth, `open_journal` takes charge of an experiment under the fence, `read` and `Follower` only look.
The format is told in docs/design/journal-format.md.
"""

from __future__ import annotations

from holdfast._journal.journal import Journal
from holdfast._journal.lease import Owner, wait_politely
from holdfast._journal.opening import create, open_journal
from holdfast._journal.reader import Follower, exists, last_of_ended, read
from holdfast._journal.verify import Problem, verify

__all__ = [
    "Follower",
    "Journal",
    "Owner",
    "Problem",
    "create",
    "exists",
    "last_of_ended",
    "open_journal",
    "read",
    "verify",
    "wait_politely",
]
