"""`holdfast doctor`: whether this machine can run experiments, and with what.

Asks the system and tries the storage, in a directory of its own that it removes; touches no experiment.
"""

from __future__ import annotations

import os
import platform
import re
import secrets
import shutil
import sys
from importlib import metadata
from typing import Any, NamedTuple

import click

import holdfast
from holdfast import settings
from holdfast.cli import options
from holdfast.cli.text import columns, echo, echo_json, size
from holdfast.engines.local.gpus import gpu_ids
from holdfast.engines.local.machine import available_cpus, available_memory
from holdfast.errors import ConfigError, TuneError
from holdfast.storage.kind import LOCAL, file_system_of
from holdfast.storage.local import LocalStorage
from holdfast.storage.opening import open_storage, whereabouts
from holdfast.storage.probing import probe
from holdfast.storage.uri import is_uri

__all__ = ["Finding", "doctor", "findings"]

OK, NOTE, WRONG = "ok", "note", "wrong"
_LITTLE = 1 << 30
_PATIENCE_S = 15.0
_SHARED = "/dev/shm"  # noqa: S108 - looked at, not written to


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
        topic: What.
        verdict: "ok", "note" (good to know) or "wrong" (experiments will not run as they should).
        told: What was found, and where it is wrong what to do.
    """

    topic: str
    verdict: str
    told: str


@click.command("doctor", short_help="Check this machine and a directory on it.")
@click.argument("directory", default="", shell_complete=options.directories)
@options.as_json
@click.pass_context
def doctor(context: click.Context, directory: str, as_json: bool) -> None:
    """Check what experiments need: versions, extras, GPUs, limits, and the storage at DIRECTORY (by default where they go).

    Exit code 1 when something is wrong. An extra that is not installed is not wrong.
    """
    try:
        found = findings(directory or settings.results_dir())
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    extras = _extras()
    bad = any(one.verdict == WRONG for one in found)
    if as_json:
        echo_json({"wrong": bad, "findings": [one._asdict() for one in found], "extras": extras})
    else:
        echo(columns(("what", "", "found"), found))
        echo()
        lines = [(one["extra"], one["needs"] if one["installed"] else f"missing: {one['missing']}") for one in extras]
        echo(columns(("extra", "installed as"), lines))
        echo("\nA missing one is installed by pip install 'holdfast[EXTRA]'.")
        echo("Something is wrong." if bad else "Nothing is wrong.")
    context.exit(1 if bad else 0)


def findings(directory: str) -> list[Finding]:
    """All that was looked at, for experiments that go into a directory."""
    place = whereabouts(directory)
    return [*_versions(), *_machine(), *(_store(place) if is_uri(place) else _storage(place))]


def _versions() -> list[Finding]:
    python = (3, 10) <= sys.version_info < (3, 14)
    found = [
        Finding("holdfast", OK, f"{holdfast.__version__} in {os.path.dirname(holdfast.__file__)}"),
        Finding("Python", OK if python else WRONG, platform.python_version() + ("" if python else ": use 3.10 to 3.13")),
    ]
    linux = sys.platform == "linux"
    system = f"{platform.system()} {platform.release()}"
    found.append(Finding("system", OK if linux else WRONG, system + ("" if linux else ": trials run in processes on Linux only")))
    for name, needs in _required("").items():
        version = _version(name)
        told = f"missing: pip install '{needs}'" if version is None else version
        found.append(Finding(name, OK if version else WRONG, told))
    return found


def _machine() -> list[Finding]:
    found = []
    machine, allowed = os.cpu_count() or 1, available_cpus()
    found.append(Finding("CPUs", OK, f"{allowed:g} for trials, of {machine} in the machine"))
    memory, whole = available_memory(), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found.append(Finding("memory", OK, f"{size(int(memory))} for trials, of {size(whole)} in the machine"))
    gpus = gpu_ids()
    found.append(
        Finding("GPUs", OK if gpus else NOTE, ", ".join(gpus) or "none is seen (nvidia-ml-py, nvidia-smi, CUDA_VISIBLE_DEVICES)")
    )
    try:
        free = shutil.disk_usage(_SHARED).free
        found.append(Finding(_SHARED, OK, f"{size(free)} free (shared objects do not need it)"))
    except OSError:
        found.append(Finding(_SHARED, NOTE, "is not there; data loaders of PyTorch need it"))
    for read in (settings.cpus, settings.gpus, settings.custom_resources, settings.log_bytes, settings.grace_s):
        try:
            read()
        except ConfigError as error:
            found.append(Finding("environment", WRONG, str(error)))
    return found


def _storage(directory: str) -> list[Finding]:
    there = directory
    while not os.path.isdir(there) and there != os.path.dirname(there):
        there = os.path.dirname(there)
    kind = file_system_of(there)
    trusted = not kind or kind in LOCAL
    told = f"{kind or 'a file system of unknown type'}"
    found = [Finding("storage", OK, directory if there == directory else f"{directory} (to be made, in {there})")]
    found.append(
        Finding(
            "file system",
            OK if trusted else NOTE,
            told if trusted else f"{told}: not known to be local, so nothing is appended there",
        )
    )
    try:
        free = shutil.disk_usage(there).free
        found.append(Finding("free space", OK if free >= _LITTLE else NOTE, size(free)))
        found.append(_tried(there))
    except OSError as error:
        found.append(Finding("writing", WRONG, f"{there}: {error.strerror}. Give a directory that can be written to."))
    return found


def _store(uri: str) -> list[Finding]:
    """Writes, and asks twice for what only one may get, as each driver does when it takes charge."""
    storage = open_storage(uri, patience_s=_PATIENCE_S)
    found = [Finding("storage", OK, storage.root)]
    name = f".holdfast-doctor-{secrets.token_hex(4)}"
    try:
        probe(storage, name)
    except TuneError as error:
        return [*found, Finding("writing", WRONG, str(error))]
    return [*found, Finding("writing", OK, "works, and what one creates no other can")]


def _tried(directory: str) -> Finding:
    """Writes, and asks twice for what only one may get: the fence between drivers rests on that."""
    storage = LocalStorage(os.path.join(directory, f".holdfast-doctor-{secrets.token_hex(4)}"))
    try:
        os.mkdir(storage.root)
        try:
            first, second = storage.put_if_absent("claim", b"1"), storage.put_if_absent("claim", b"2")
            kept = storage.read("claim") == b"1"
        finally:
            shutil.rmtree(storage.root)
    except (TuneError, OSError) as error:
        return Finding("writing", WRONG, str(error))
    if (first, second, kept) != (True, False, True):
        return Finding("writing", WRONG, "the file system lets two create the same file: experiments cannot be kept safe there")
    return Finding("writing", OK, "works, durable, and what one creates no other can")


def _extras() -> list[dict[str, Any]]:
    """Each extra with the packages it needs and those that are missing."""
    found = []
    for extra in sorted(metadata.metadata("holdfast").get_all("Provides-Extra") or []):
        names = _required(extra)
        missing = [name for name in names if _version(name) is None]
        needs = ", ".join(f"{name} {_version(name)}" for name in names if name not in missing)
        found.append({"extra": extra, "installed": not missing, "needs": needs, "missing": ", ".join(missing)})
    return found


def _required(extra: str) -> dict[str, str]:
    """What an extra needs (without one: what holdfast needs): name -> as pip takes it."""
    found = {}
    for line in metadata.requires("holdfast") or []:
        needs, _, condition = line.partition(";")
        named = re.search(r"""extra\s*==\s*["']([^"']+)""", condition)
        if (named[1] if named else "") == extra:
            found[re.split(r"[^\w.-]", needs.strip())[0]] = needs.strip()
    return found


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
