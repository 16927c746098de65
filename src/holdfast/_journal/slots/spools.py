"""Which spools on this machine are an experiment's own: those of its place, and those of a place that it was moved from.

Knows that a copy has the experiment's id, its epochs and their nonces in common with the original, and that the place alone tells
them apart. It refuses to know what is in a record.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from holdfast._journal.slots.spool import FOLDER, SpoolName, files_of, spooled, take
from holdfast.storage.base import AppendingStorage

__all__ = ["Spools"]


class Spools(NamedTuple):
    """The spools of all experiments on this machine.

    Attributes:
        disk: Where they are.
        stands: Whether the place of that URI still holds the experiment of that id.
    """

    disk: AppendingStorage
    stands: Callable[[str, str], bool]

    def taken(self, name: SpoolName, after: int, root: str, *, fence: bool) -> tuple[list[bytes], list[str], list[str]]:
        """What an opener takes along in its claim.

        The spool of another place counts where the experiment has gone from there: it was moved. Else this is a copy of what is
        there, and what that has acknowledged stays its own.

        Args:
            name: Of the epoch before, at the experiment's own place.
            after: The last position on record.
            root: That place, for people.
            fence: Whether the driver of that epoch may still write.

        Returns:
            The records behind `after`, the files that are to go with a claim that has them, and in sentences what a copy lacks.

        Raises:
            StorageError: The disk refuses.
        """
        own, lacking = [name], list[str]()
        for other, uri in self._of_other_places(name):
            if not self.stands(uri, name.experiment_id):
                own.append(other)
            elif count := len(spooled(self.disk, other, after)[0]):
                lacking.append(
                    f"{root} is a copy of {uri.partition('?')[0]}, made before the last {count} records that were acknowledged "
                    "there had reached it. They are not part of the copy. To have them, restore the original on this machine, "
                    "and copy it then."
                )
        records, files = list[bytes](), list[str]()
        for one in own:
            if fence:
                take(self.disk, one)
            found, paths = spooled(self.disk, one, after)
            records, files = records or found, [*files, *paths, one.whereabouts]
        return records, files, lacking

    def _of_other_places(self, name: SpoolName) -> list[tuple[SpoolName, str]]:
        """The spools of the very same epoch at other places, each with the URI of its place."""
        found = []
        for folder in self.disk.names(FOLDER):
            experiment_id, _, place = folder.partition("-")
            other = name._replace(place=place)
            if experiment_id == name.experiment_id and place != name.place and files_of(self.disk, other):
                found.append((other, self.disk.read(other.whereabouts).decode("utf-8", "surrogateescape")))
        return found
