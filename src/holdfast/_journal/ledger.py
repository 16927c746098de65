"""The epochs of one experiment: who claimed which, and where each was sealed.

Knows the birth, the claims and the seals: small whole files that are created exclusively and never change. It refuses to
know how records are framed or appended. It only reads, but for `publish_seal`.
"""

from __future__ import annotations

import msgspec

from holdfast._core.events import ExperimentCreated, Record
from holdfast._journal import layout
from holdfast._journal.codec import CLAIM, PACK, SEAL, decode_record, encode_record, unwrap, wrap
from holdfast._journal.frame import HEADER_SIZE, BadHeader, Frames, Header, TooNew
from holdfast._journal.lease import Owner
from holdfast.errors import ExperimentNotFound, JournalError, JournalTooNew
from holdfast.storage.base import Storage

__all__ = ["Claim", "Cut", "Ledger", "Packed", "Seal", "birth_bytes", "read_birth", "too_new"]


class Claim(msgspec.Struct, frozen=True, array_like=True):
    """The contents of a claim.

    Attributes:
        epoch: Its number, from 1.
        owner: The process that made it.
        nonce: Random, so that no two claims are the same bytes.
    """

    epoch: int
    owner: Owner
    nonce: str


class Cut(msgspec.Struct, frozen=True, array_like=True):
    """What a seal cut off: `size` bytes of `file` from `offset` on."""

    file: str
    offset: int
    size: int


class Seal(msgspec.Struct, frozen=True, array_like=True):
    """The end of an epoch. What the epoch's files have behind it is void.

    Attributes:
        epoch: The epoch that it ends.
        by: The epoch whose driver wrote it; the same where a driver closed in good order.
        segment: The epoch's last segment; -1 where it wrote none.
        covered: How far that segment's file counts. What is behind is never read again.
        tail: The frames behind `covered`, as they were found: not known to be durable there, durable here.
        salt: That segment's salt.
        first: The position of the epoch's first record.
        last: The position of its last; `first - 1` where it has none.
        cut: What was damaged behind the last sync mark, if anything.
    """

    epoch: int
    by: int
    segment: int
    covered: int
    tail: bytes
    salt: int
    first: int
    last: int
    cut: Cut | None = None


class Packed(msgspec.Struct, frozen=True, array_like=True):
    """One segment in a pack: its bytes as far as the epoch's seal says that they count."""

    epoch: int
    segment: int
    data: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode_claim = msgspec.msgpack.Decoder(Claim).decode
_decode_seal = msgspec.msgpack.Decoder(Seal).decode
_decode_pack = msgspec.msgpack.Decoder(list[Packed]).decode


def too_new(file: str) -> JournalTooNew:
    """The error for a segment of a later format."""
    return JournalTooNew(file, 0, "written by a newer holdfast", "Upgrade holdfast.")


def birth_bytes(created: ExperimentCreated, wall: float, salt: int) -> bytes:
    """The birth file: a whole segment with one record."""
    record = Record(position=0, epoch=0, time=0.0, wall=wall, event=created)
    return Header(created.experiment_id, 0, 0, 0, salt).encode() + Frames(salt).record(encode_record(record))


class Ledger:
    """One reader's view of the epochs; seals and claims are read once, for they never change.

    Attributes:
        storage: The experiment's directory.
        experiment_id: From the birth.
        birth: The record at position 0.

    Raises:
        ExperimentNotFound: There is no birth.
        JournalError: The birth does not read.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._seals: dict[int, Seal] = {0: Seal(0, 0, 0, 0, b"", 0, 0, 0)}  # the birth ends its own epoch; no gaps
        self._claims: dict[int, Claim] = {}
        self._pack: tuple[str, list[Packed]] = ("", [])
        self.birth = read_birth(storage)
        assert isinstance(self.birth.event, ExperimentCreated)
        self.experiment_id = self.birth.event.experiment_id

    def newest(self) -> int:
        """The newest epoch that was claimed; 0 where none was.

        Raises:
            JournalError: A claim is missing, or a seal that must have stood before a later epoch wrote anything.
        """
        wrote = max(map(layout.epoch_of, self.storage.names(layout.JOURNAL)), default=0)
        names = self.storage.names(layout.EPOCHS)
        newest = max(wrote, max(map(layout.epoch_of, names), default=0))
        claims = set(names)
        for epoch in range(1, newest + 1):
            path = layout.claim_path(epoch)
            # A listing made while others create files may lack one: the file itself is asked before it is called missing.
            if path.rpartition("/")[2] not in claims and not self.claimed(epoch):
                raise JournalError(path, 0, f"the claim of epoch {epoch} is missing")
            self.claim(epoch)
        if wrote > 1 and self.seal(wrote - 1) is None:
            raise JournalError(layout.seal_path(wrote - 1), 0, f"the seal is missing; epoch {wrote} has records behind it")
        return newest

    def claim(self, epoch: int) -> Claim:
        """Who claimed an epoch."""
        claim = self._claims.get(epoch)
        if claim is None:
            path = layout.claim_path(epoch)
            payload = unwrap(CLAIM, self.experiment_id, self.storage.read(path), path)
            claim = self._claims[epoch] = _decode_claim(payload)
            if claim.epoch != epoch:
                raise JournalError(path, 0, f"the claim of epoch {claim.epoch} stands in its place")
        return claim

    def make_claim(self, epoch: int, owner: Owner, nonce: str) -> bool:
        """Claims an epoch; False where somebody else has."""
        payload = _encode(Claim(epoch, owner, nonce))
        return self.storage.put_if_absent(layout.claim_path(epoch), wrap(CLAIM, self.experiment_id, payload))

    def claimed(self, epoch: int) -> bool:
        """Whether an epoch has been claimed."""
        return self.storage.exists(layout.claim_path(epoch))

    def last_of(self, epoch: int) -> int | None:
        """The last position of an epoch that counts; None while it has no seal."""
        seal = self.seal(epoch)
        return None if seal is None else seal.last

    def seal(self, epoch: int) -> Seal | None:
        """Where an epoch ends; None while it has no seal.

        Raises:
            JournalError: The seal does not read, or does not join the epoch before.
        """
        if epoch in self._seals:
            return self._seals[epoch]
        known = max(self._seals)
        seal = self._read_seal(epoch)
        if seal is None:
            return None
        # Each seal is checked against the one before: from the last that was checked, upwards.
        for between in range(known + 1, epoch):
            before = self._read_seal(between)
            if before is None:
                raise JournalError(layout.seal_path(between), 0, f"epoch {epoch} is sealed and an epoch before it is not")
            self._check_seal(before)
        self._check_seal(seal)
        return seal

    def _read_seal(self, epoch: int) -> Seal | None:
        path = layout.seal_path(epoch)
        try:
            data = self.storage.read(path)
        except FileNotFoundError:
            return None
        seal = _decode_seal(unwrap(SEAL, self.experiment_id, data, path))
        if seal.epoch != epoch:
            raise JournalError(path, 0, f"the seal of epoch {seal.epoch} stands in its place")
        return seal

    def _check_seal(self, seal: Seal) -> None:
        before = self._seals[seal.epoch - 1]
        if seal.first != before.last + 1:
            problem = f"it begins at position {seal.first}, the epoch before ends at {before.last}"
            raise JournalError(layout.seal_path(seal.epoch), 0, problem)
        self._seals[seal.epoch] = seal

    def publish_seal(self, seal: Seal) -> Seal:
        """Seals an epoch; returns the seal that stands, which may be another's."""
        path = layout.seal_path(seal.epoch)
        self.storage.put_if_absent(path, wrap(SEAL, self.experiment_id, _encode(seal)))
        standing = self.seal(seal.epoch)
        if standing is None:
            raise JournalError(path, 0, "the seal is gone right after it was written")
        return standing

    def pack(self, path: str) -> list[Packed]:
        """The segments in a pack; the last one read is kept, for epochs are read in order.

        Raises:
            JournalError: It does not read.
        """
        if self._pack[0] != path:
            self._pack = (path, _decode_pack(unwrap(PACK, self.experiment_id, self.storage.read(path), path)))
        return self._pack[1]


def read_birth(storage: Storage) -> Record:
    """The record at position 0.

    Raises:
        ExperimentNotFound: There is no birth.
        JournalError: The birth does not read.
    """
    try:
        data = storage.read(layout.BIRTH)
    except FileNotFoundError as error:
        raise ExperimentNotFound(
            f"There is no experiment at {storage.root}: {layout.BIRTH} is missing. Check the path, which is the "
            "experiment's own directory, <storage_path>/<name>."
        ) from error
    try:
        header = Header.decode(data)
    except TooNew as error:
        raise too_new(layout.BIRTH) from error
    except BadHeader as error:
        raise JournalError(layout.BIRTH, 0, "the header does not read") from error
    scan = Frames(header.salt).scan(data, HEADER_SIZE, len(data))
    if scan.end != len(data) or len(scan.records) != 1:
        raise JournalError(layout.BIRTH, scan.end, "the birth record does not read")
    record = decode_record(scan.records[0], layout.BIRTH, scan.offsets[0])
    event = record.event
    if not isinstance(event, ExperimentCreated) or record.position != 0 or event.experiment_id != header.experiment_id:
        raise JournalError(layout.BIRTH, scan.offsets[0], "it does not hold the birth of this experiment")
    return record
