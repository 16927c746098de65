"""The journal: every fact of an experiment, in order, in files or slots that no crash can make lie.

`create` writes the birth, `open_journal` takes charge of an experiment under the fence, `read` and `Follower` only look.
The format is told in docs/design/journal-format.md.
"""

from __future__ import annotations

from holdfast._journal.kinds import Follower, create, exists, last_of_ended, open_journal, read, signs_of, verify
from holdfast._journal.lease import Owner, wait_politely
from holdfast._journal.ledger import read_birth
from holdfast._journal.port import Journal
from holdfast._journal.verify import Problem

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
    "read_birth",
    "signs_of",
    "verify",
    "wait_politely",
]
