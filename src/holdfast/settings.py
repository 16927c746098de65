"""The only reader of environment variables.

Each function reads its variable when called, so that a test or a user may set it late; `SETTINGS` lists them all
for the documentation.
"""

from __future__ import annotations

import os

__all__ = ["SETTINGS"]

SETTINGS = {
    "HOLDFAST_RESULTS_DIR": "where experiments go when no storage_path is given (default ~/holdfast_results)",
    "HOLDFAST_ENGINE": "the engine when RunConfig names none: local (default)",
    "HOLDFAST_START_METHOD": "fork (default, from a preloaded server) or spawn (a fresh interpreter per attempt)",
    "HOLDFAST_CPUS": "how many CPUs trials may use in all (default: as many as the process may run on)",
    "HOLDFAST_TOKEN": "set by holdfast in each process that belongs to a trial: <experiment id>.<epoch>",
    "HOLDFAST_FAULTS": "crash points to arm, for tests: point:count=stop|kill, separated by commas",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1: no result.json, progress.csv, params.json, params.pkl",
    "TUNE_DISABLE_DATED_SUBDIR": "1: default experiment names carry no date",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1: rows may lack the metric that the job is about",
    "TUNE_DISABLE_SIGINT_HANDLER": "1: Ctrl+C is left to Python",
    "TUNE_MAX_LEN_IDENTIFIER": "longest trial directory name (default 130)",
    "TUNE_MAX_PENDING_TRIALS_PG": "how many trials may wait for a place before more are suggested (default 1)",
    "RAY_CHDIR_TO_TRIAL_DIR": "0: trials keep the driver's working directory",
}


def _flag(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0")


def faults() -> str:
    """`HOLDFAST_FAULTS`."""
    return os.environ.get("HOLDFAST_FAULTS", "")


def token() -> str:
    """`HOLDFAST_TOKEN`: not empty in a process that descends from a trial's worker."""
    return os.environ.get("HOLDFAST_TOKEN", "")


def results_dir() -> str:
    """`HOLDFAST_RESULTS_DIR`, absolute."""
    return os.path.abspath(os.path.expanduser(os.environ.get("HOLDFAST_RESULTS_DIR") or "~/holdfast_results"))


def engine() -> str:
    """`HOLDFAST_ENGINE`."""
    return os.environ.get("HOLDFAST_ENGINE") or "local"


def start_method() -> str:
    """`HOLDFAST_START_METHOD`."""
    return os.environ.get("HOLDFAST_START_METHOD") or "fork"


def cpus() -> float | None:
    """`HOLDFAST_CPUS`, or None where the machine is to be asked."""
    text = os.environ.get("HOLDFAST_CPUS")
    return float(text) if text else None


def file_loggers_disabled() -> bool:
    """`TUNE_DISABLE_AUTO_CALLBACK_LOGGERS`."""
    return _flag("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS")


def dated_names_disabled() -> bool:
    """`TUNE_DISABLE_DATED_SUBDIR`."""
    return _flag("TUNE_DISABLE_DATED_SUBDIR")


def strict_metrics() -> bool:
    """Whether a row must hold the job's metric: `TUNE_DISABLE_STRICT_METRIC_CHECKING` is not set."""
    return not _flag("TUNE_DISABLE_STRICT_METRIC_CHECKING")


def sigint_handler() -> bool:
    """Whether `fit` handles Ctrl+C itself: `TUNE_DISABLE_SIGINT_HANDLER` is not set."""
    return not _flag("TUNE_DISABLE_SIGINT_HANDLER")


def longest_identifier() -> int:
    """`TUNE_MAX_LEN_IDENTIFIER`."""
    return int(os.environ.get("TUNE_MAX_LEN_IDENTIFIER") or 130)


def trials_ahead() -> int | None:
    """`TUNE_MAX_PENDING_TRIALS_PG`, or None for the default."""
    text = os.environ.get("TUNE_MAX_PENDING_TRIALS_PG")
    return int(text) if text and text != "auto" else None


def chdir_to_trial_dir() -> bool:
    """Whether trials run in their own directory: `RAY_CHDIR_TO_TRIAL_DIR` is not 0."""
    return os.environ.get("RAY_CHDIR_TO_TRIAL_DIR", "1") != "0"


def environment() -> dict[str, str]:
    """All variables, as at the call."""
    return dict(os.environ)
