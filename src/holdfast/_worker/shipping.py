"""How a checkpoint is kept on a store: each file sent as it is, many side by side, the manifest last.

Knows files and a store. What a row names is whole: the manifest is sent behind all else, and the row behind that. What was
staged is sent from its copy on this machine, which goes when the store has all of it; a process that takes over sends only what
the store does not hold yet. It does not know rows.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from hashlib import sha256
from typing import TypeVar

from holdfast import faults
from holdfast._core.events import Saved
from holdfast._core.ids import MANIFEST, checkpoint_name, pending_name
from holdfast._worker import persist
from holdfast._worker.keeping import Broken, LocalKeeper, Origin
from holdfast.checkpoint import Checkpoint
from holdfast.errors import ReportRefused, StorageError
from holdfast.storage.fetching import DAMAGED, shared_copy
from holdfast.storage.sending import AT_ONCE, PART, Sent
from holdfast.storage.uri import open_place, parse

__all__ = ["StoreKeeper"]

_GONE = "its files are gone from this machine, and the store does not have all of them"

T = TypeVar("T")


class StoreKeeper:
    """Keeps a trial's checkpoints on a store.

    Args:
        local: Stages them on this machine, in the trial's directory.
        uri: The experiment's place.
        patience_s: How long a store that fails is asked again, in each call.
    """

    def __init__(self, local: LocalKeeper, uri: str, patience_s: float = 60.0) -> None:
        self.trial_dir, self.staging = local.trial_dir, local.staging
        self._local = local
        self._place = parse(uri)
        self._storage = open_place(self._place, patience_s=patience_s)
        self._dirname = os.path.basename(local.trial_dir)

    def save(self, source: str, index: int, counters: Mapping[str, float]) -> Saved:
        """See `Keeper`. Nothing is copied on this machine."""
        tree = persist.walk(source)
        folder = self._folder(index)
        try:
            sent = self._send(source, folder, tree.files, os.urandom(16).hex(), {})
            manifest = persist.manifest_of(tree, sent, counters)
            self._name(folder, manifest)
        except StorageError as error:
            raise StorageError(error.errno, f"Checkpoint {index} could not be saved: {error.strerror or error}") from error
        except BaseException as error:  # the index may be used again by this attempt: what is there goes, as far as it can
            with suppress(StorageError):
                self._storage.delete(folder)
            if isinstance(error, OSError):
                raise ReportRefused(
                    f"The checkpoint at {source} could not be read: {error}. Report a directory that stays as it is."
                ) from error
            raise
        return Saved(index, len(sent), sum(one.size for one in sent), sha256(manifest).hexdigest())

    def stage(self, source: str, index: int, counters: Mapping[str, float]) -> Saved:
        """See `Keeper`."""
        return self._local.stage(source, index, counters)

    def commit(self, saved: Saved, *, check: bool) -> str:
        """See `Keeper`."""
        staged, folder = os.path.join(self.trial_dir, pending_name(saved.index)), self._folder(saved.index)
        faults.reach("before_checkpoint_sync")
        # Who completes it removes the copy, and may be killed when a part of it is gone: what the store has is asked first.
        there = os.path.isdir(staged)
        if (check or not there) and self._stands(folder, saved):
            problem = ""
        elif not there:
            problem = _GONE
        else:
            problem = persist.verify(staged, saved) if check else ""
            if not problem:
                problem = self._completed(staged, folder, saved, self._storage.sizes_below(folder) if check else {})
        if problem:
            self._storage.delete(folder)
        shutil.rmtree(staged, ignore_errors=True)
        return problem

    def checkpoint(self, index: int) -> Checkpoint:
        """See `Keeper`."""
        return Checkpoint(self._place.below(self._folder(index)).uri)

    def origin(self, saved: Saved, dirname: str, held: ExitStack) -> Origin:
        """See `Keeper`. It is downloaded, unless this machine has it just now for another trial."""
        place = self._place.below(f"{dirname}/{checkpoint_name(saved.index)}")
        try:
            folder = held.enter_context(shared_copy(place, saved.manifest))
        except FileNotFoundError:
            raise Broken("its files are gone") from None
        except StorageError as error:
            if error.errno == DAMAGED:
                raise Broken(error.strerror or str(error)) from error
            raise
        return Origin(Checkpoint(place.uri), folder)

    def _folder(self, index: int) -> str:
        return f"{self._dirname}/{checkpoint_name(index)}"

    def _stands(self, folder: str, saved: Saved) -> bool:
        """Whether the store has all of it: another process has completed it and was not heard."""
        try:
            return sha256(self._storage.read(f"{folder}/{MANIFEST}")).hexdigest() == saved.manifest
        except FileNotFoundError:
            return False

    def _completed(self, staged: str, folder: str, saved: Saved, there: Mapping[str, int]) -> str:
        """Sends what the store does not hold; returns what is wrong with the copy on this machine."""
        with open(os.path.join(staged, MANIFEST), "rb") as file:
            manifest = file.read()
        files = {name: Sent(size, checksum) for name, size, checksum in json.loads(manifest)["files"]}
        # What stands in the store under this index came from this very copy, and carries this nonce if it was sent whole.
        sent = self._send(staged, folder, [*files], saved.manifest, {name: files[name] for name in files if name in there})
        for name, one in zip(files, sent, strict=True):
            if one != files[name]:
                return f"{name} does not have the content that was saved"
        self._name(folder, manifest)
        return ""

    def _send(self, source: str, folder: str, names: Sequence[str], nonce: str, there: Mapping[str, Sent]) -> list[Sent]:
        """Sends files: the large ones one after another, each in parts side by side, then the small ones side by side.

        `there`: what may stand in the store already, and does where it carries the nonce.
        """

        def send(name: str) -> Sent:
            path = f"{folder}/{name}"
            if name in there:
                with suppress(FileNotFoundError):
                    if self._storage.nonce_at(path) == nonce:
                        return there[name]
            sent = self._storage.send(path, os.path.join(source, name), nonce)
            faults.reach("mid_checkpoint_upload")
            return sent

        _check_names(source, names)
        large = [name for name in names if os.path.getsize(os.path.join(source, name)) > PART]
        small = sorted({*names} - {*large})
        found = dict(zip(large, map(send, large), strict=True))
        found.update(zip(small, _side_by_side(send, small), strict=True))
        return [found[name] for name in names]

    def _name(self, folder: str, manifest: bytes) -> None:
        faults.reach("before_checkpoint_rename")
        self._storage.put(f"{folder}/{MANIFEST}", manifest)
        faults.reach("after_checkpoint_rename")


def _side_by_side(action: Callable[[str], T], names: Sequence[str]) -> list[T]:
    """What `action` gives for each; where one fails, those that were not begun are not."""
    if len(names) < 2:
        return [action(name) for name in names]
    with ThreadPoolExecutor(AT_ONCE, "holdfast-upload") as pool:
        futures = [pool.submit(action, name) for name in names]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _check_names(source: str, names: Sequence[str]) -> None:
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            bad = True
        else:
            bad = any(ord(letter) < 32 for letter in name)
        if bad:
            raise ReportRefused(f"The checkpoint at {source} holds {name!r}, and no object can have that name. Rename the file.")
