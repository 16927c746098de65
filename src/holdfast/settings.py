"""The only reader of environment variables.

Each function reads its variable when called, so that a test or a user may set it late; `SETTINGS` lists them all
for the documentation.
"""

from __future__ import annotations

import os

from holdfast.errors import ConfigError

__all__ = ["SETTINGS"]

SETTINGS = {
    "HOLDFAST_RESULTS_DIR": "where experiments go when no storage_path is given (default ~/holdfast_results)",
    "HOLDFAST_ENGINE": "the engine when RunConfig names none: local, inline (in the driver's process, to debug) or ray (default: "
    "ray in a process that is connected to Ray or has RAY_ADDRESS set, else local)",
    "HOLDFAST_START_METHOD": "fork (default, from a preloaded server) or spawn (a fresh interpreter per attempt)",
    "HOLDFAST_CPUS": "how many CPUs trials may use in all (default: as many as the process may run on)",
    "HOLDFAST_GPUS": "how many GPUs trials may use in all (default: as many as this process sees)",
    "HOLDFAST_RESOURCES": 'what else trials may ask for, as JSON: {"hdd": 80}',
    "HOLDFAST_GRACE_S": "how many seconds trials have to leave after Ctrl+C, SIGTERM or SIGUSR1 (default 15)",
    "HOLDFAST_PREEMPTION_FILE": "a path where a file appears on a machine that is about to be taken away: trials there are told "
    "by get_context().preemption_notice()",
    "HOLDFAST_TRACKER_WAIT_S": "how many seconds the end of an experiment waits for trackers to take what is left (default 30)",
    "HOLDFAST_LOG_BYTES": "how large the log of an attempt grows before it is rotated (default 16777216; 0: without bound)",
    "HOLDFAST_CACHE_DIR": "where this machine keeps what an object store may not have yet (default ~/.cache/holdfast)",
    "HOLDFAST_TOKEN": "set by holdfast in each process that belongs to a trial: <experiment id>.<place>.<epoch>",
    "HOLDFAST_STORE_KEYS": "set by holdfast in each process of a trial: the keys of a storage_filesystem that was given some",
    "HOLDFAST_FAULTS": "crash points to arm, for tests: point:count=stop|kill, separated by commas",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1: no result.json, progress.csv, params.json, params.pkl",
    "TUNE_DISABLE_DATED_SUBDIR": "1: default experiment names carry no date",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1: rows may lack the metric that the job is about",
    "TUNE_DISABLE_SIGINT_HANDLER": "1: Ctrl+C is left to Python",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "1: the traceback of an attempt that fails is printed; 0: nothing is (default: one line)",
    "TUNE_MAX_LEN_IDENTIFIER": "longest trial directory name (default 130)",
    "TUNE_MAX_PENDING_TRIALS_PG": "how many trials may wait for a place before more are suggested (default 1)",
    "TUNE_RESTORE_RETRY_NUM": "how often a class trainable tries again to load a checkpoint before that counts (default 0)",
    "TUNE_FORCE_TRIAL_CLEANUP_S": "how many seconds class trainables have to clean up (default 600; 0: any number)",
    "TUNE_WARN_INSUFFICIENT_RESOURCE_THRESHOLD_S": "after how many seconds of a trial's waiting for a place a warning says why "
    "(default 60; 0: never)",
    "CUDA_VISIBLE_DEVICES": "the GPUs that trials may use; its first is the one that wait_for_gpu looks at by default",
    "RAY_ADDRESS": "the Ray cluster that the engine ray connects to; where it is set, ray is the default engine",
    "RAY_CHDIR_TO_TRIAL_DIR": "0: trials keep the driver's working directory",
    "RAY_TUNE_CALLBACKS": "classes of callbacks, module.Class, separated by commas: they hear all after the given ones",
    "RAY_AIR_FULL_TRACEBACKS": "1: tracebacks of failed trials hold holdfast's own frames too",
}


def _flag(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0")


def faults() -> str:
    """`HOLDFAST_FAULTS`."""
    return os.environ.get("HOLDFAST_FAULTS", "")


def log_bytes() -> int:
    """`HOLDFAST_LOG_BYTES`; 0: without bound.

    Raises:
        ConfigError: It is no whole number that is 0 or more.
    """
    text = os.environ.get("HOLDFAST_LOG_BYTES") or str(16 * 1024 * 1024)
    if not text.isdecimal():
        raise ConfigError(f"HOLDFAST_LOG_BYTES={text!r}: a whole number of bytes, 0 for no bound.")
    return int(text)


def cache_dir() -> str:
    """`HOLDFAST_CACHE_DIR`, absolute."""
    usual = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "holdfast")
    return os.path.abspath(os.path.expanduser(os.environ.get("HOLDFAST_CACHE_DIR") or usual))


def token() -> str:
    """`HOLDFAST_TOKEN`: not empty in a process that descends from a trial's worker."""
    return os.environ.get("HOLDFAST_TOKEN", "")


def preemption_file() -> str:
    """`HOLDFAST_PREEMPTION_FILE`, empty where it is not set."""
    return os.environ.get("HOLDFAST_PREEMPTION_FILE", "")


def results_dir() -> str:
    """`HOLDFAST_RESULTS_DIR`, absolute."""
    return os.path.abspath(os.path.expanduser(os.environ.get("HOLDFAST_RESULTS_DIR") or "~/holdfast_results"))


def engine() -> str:
    """`HOLDFAST_ENGINE`, empty where it is not set."""
    return os.environ.get("HOLDFAST_ENGINE", "")


def ray_address() -> str:
    """`RAY_ADDRESS`, empty where it is not set."""
    return os.environ.get("RAY_ADDRESS", "")


def start_method() -> str:
    """`HOLDFAST_START_METHOD`."""
    return os.environ.get("HOLDFAST_START_METHOD") or "fork"


def cpus() -> float | None:
    """`HOLDFAST_CPUS`, or None where the machine is to be asked."""
    return _amount("HOLDFAST_CPUS")


def gpus() -> float | None:
    """`HOLDFAST_GPUS`, or None where it is not set."""
    return _amount("HOLDFAST_GPUS")


def custom_resources() -> dict[str, float]:
    """`HOLDFAST_RESOURCES`: amounts by name.

    Raises:
        ConfigError: It is no JSON object of numbers.
    """
    text = os.environ.get("HOLDFAST_RESOURCES")
    if not text:
        return {}
    import json

    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or any(isinstance(n, bool) or not isinstance(n, (int, float)) for n in found.values()):
        raise ConfigError(f'HOLDFAST_RESOURCES={text!r}: a JSON object of numbers, such as {{"hdd": 80}}.')
    return {str(kind): float(amount) for kind, amount in found.items()}


def _amount(name: str) -> float | None:
    text = os.environ.get(name)
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{name}={text!r}: a number.") from None


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


def trial_errors_printed() -> bool | None:
    """`TUNE_PRINT_ALL_TRIAL_ERRORS`: with their tracebacks or not at all; None where it is not set."""
    return _flag("TUNE_PRINT_ALL_TRIAL_ERRORS") if os.environ.get("TUNE_PRINT_ALL_TRIAL_ERRORS") else None


def callbacks() -> list[str]:
    """`RAY_TUNE_CALLBACKS`: the names of classes."""
    return [name.strip() for name in os.environ.get("RAY_TUNE_CALLBACKS", "").split(",") if name.strip()]


def full_tracebacks() -> bool:
    """`RAY_AIR_FULL_TRACEBACKS`."""
    return _flag("RAY_AIR_FULL_TRACEBACKS")


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


def restore_retries() -> int:
    """`TUNE_RESTORE_RETRY_NUM`."""
    return int(os.environ.get("TUNE_RESTORE_RETRY_NUM") or 0)


def cleanup_s() -> float:
    """`TUNE_FORCE_TRIAL_CLEANUP_S`, in seconds; infinite where it is 0."""
    return float(os.environ.get("TUNE_FORCE_TRIAL_CLEANUP_S") or 600) or float("inf")


def grace_s() -> float:
    """`HOLDFAST_GRACE_S`."""
    seconds = _amount("HOLDFAST_GRACE_S")
    return 15.0 if seconds is None else max(0.0, seconds)


def tracker_wait_s() -> float:
    """`HOLDFAST_TRACKER_WAIT_S`."""
    seconds = _amount("HOLDFAST_TRACKER_WAIT_S")
    return 30.0 if seconds is None else max(0.0, seconds)


def waiting_warned_after_s() -> float:
    """`TUNE_WARN_INSUFFICIENT_RESOURCE_THRESHOLD_S`; infinite where it is 0."""
    seconds = _amount("TUNE_WARN_INSUFFICIENT_RESOURCE_THRESHOLD_S")
    return 60.0 if seconds is None else seconds if seconds > 0 else float("inf")


def gpus_made_visible() -> str | None:
    """`CUDA_VISIBLE_DEVICES`, or None where it is not set: an empty one means that no GPU is to be seen."""
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def visible_gpus() -> str:
    """`CUDA_VISIBLE_DEVICES`."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "")


def cloud(name: str) -> str:
    """One of a cloud's own variables, empty where it is not set; docs/storage.md says which are looked at."""
    return os.environ.get(name, "")


def store_keys() -> str:
    """`HOLDFAST_STORE_KEYS`."""
    return os.environ.get("HOLDFAST_STORE_KEYS", "")


def library(name: str) -> str:
    """One of another library's own variables, empty where it is not set; docs/trackers.md and docs/integrations.md name them."""
    return os.environ.get(name, "")


def environment() -> dict[str, str]:
    """All variables, as at the call."""
    return dict(os.environ)
