"""Packing: many slots in one object, byte for byte, so that a restore reads few.

Knows which slots may go: claims never do, for a freed number of a claim would be an open fence. It refuses to know what is in the
records. What a slot holds is final, so this needs no fence: a crash leaves a slot in its object, in a pack, or in both.
"""

from __future__ import annotations

from holdfast._journal.slots.chain import Chain, Listing
from holdfast._journal.slots.slot import HINT, SLOTS, Pack, decode, encode_pack, slot_path
from holdfast.errors import JournalError

__all__ = ["PACK_AT", "pack", "sweep"]

PACK_AT = 12
_LARGEST = 64 << 20


def pack(chain: Chain, last: int) -> int:
    """Packs the slots up to `last`, which must not be the chain's last; returns how many went into a pack.

    Packs that hold no more slots than what comes behind them go in as well, so that there are few, and each byte moves seldom.

    Raises:
        JournalError: A slot does not read, or a pack does not read back. Nothing was deleted for it.
        StorageError: The store refuses. Nothing is lost.
    """
    listing = chain.look()
    if last <= listing.packed:
        return 0
    try:
        return _pack(chain, listing, last)
    except FileNotFoundError as error:
        if chain.look().packs == listing.packs:
            remedy = "`holdfast verify PATH` lists all damage without changing anything."
            raise JournalError(str(error.filename), 0, "it is missing, and nothing else has what it held", remedy) from None
        return 0  # an older driver packs too, and was faster


def _pack(chain: Chain, listing: Listing, last: int) -> int:
    first = listing.packed + 1
    slots = [_raw(chain, number) for number in range(first, last + 1)]
    if chain.look().packs != listing.packs:
        return 0  # what was read may have been packed and freed before, and taken by an opener that had slept
    moved = len(slots)
    position = decode(slots[-1], chain.experiment_id, last, slot_path(last)).next - 1
    absorbed: list[Pack] = []
    for older in reversed(listing.packs):
        if older.last - older.first >= len(slots) or older.last != first - 1:
            break
        held = chain.packed(older)
        if sum(map(len, held)) + sum(map(len, slots)) > _LARGEST:
            break
        slots[:0], first = held, older.first
        absorbed.append(older)
    made = Pack(first, last, position)
    data = encode_pack(slots, chain.experiment_id)
    chain.storage.put_if_absent(made.path, data)
    if chain.storage.read(made.path) != data:
        raise JournalError(made.path, 0, "the pack does not hold what was packed", "Delete that pack: its slots are still there.")
    chain.storage.put(HINT, b"%d" % last)
    claims = {number for number, raw in enumerate(slots, first) if _is_claim(chain, raw, number)}
    freed = [slot_path(number) for number in range(listing.packed + 1, last + 1) if number not in claims]
    chain.storage.delete_files([*freed, *(older.path for older in absorbed)])
    return moved


def sweep(chain: Chain) -> int:
    """Deletes the slots that a pack has and that a crash left beside it; returns how many. Claims stay; probes go."""
    listing = chain.look()
    left = [number for number in listing.numbers if number <= listing.packed]
    doomed = []
    for number in left:
        held = listing.holding(number)
        if held is not None and not _is_claim(chain, chain.packed(held)[number - held.first], number):
            doomed.append(slot_path(number))
    probes = [f"{SLOTS}/{name}" for name in chain.storage.names(SLOTS) if name.startswith("probe-")]
    chain.storage.delete_files([*doomed, *probes])
    return len(doomed)


def _raw(chain: Chain, number: int) -> bytes:
    data = chain.storage.read(slot_path(number))
    decode(data, chain.experiment_id, number, slot_path(number))  # what does not read is not moved
    return data


def _is_claim(chain: Chain, raw: bytes, number: int) -> bool:
    return decode(raw, chain.experiment_id, number, slot_path(number)).owner is not None
