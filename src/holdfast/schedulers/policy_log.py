"""The log of a population: one JSON line per exploit, as Ray Tune writes it, and how a schedule is read from it.

Knows the format. Refuses to know who writes it (`holdfast.logger.policy` does) and when.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from holdfast.errors import ConfigError

__all__ = ["PolicyStep", "read_policy"]

Config = dict[str, Any]


class PolicyStep(NamedTuple):
    """From an iteration on, another configuration is in force."""

    iteration: float
    config: Config


class _Line(NamedTuple):
    """A line of the log: a trial went on from another one."""

    trial: str
    donor: str
    iteration: float
    donor_iteration: float
    donor_config: Config
    config: Config


def read_policy(path: str) -> tuple[Config, list[PolicyStep]]:
    """The schedule that led to the log's last line: the first configuration, and the steps that followed.

    Read backwards from the last line, each line must be about the trial that the line behind it went on from; lines before
    the first that is not belong to a life that was given up.

    Raises:
        ConfigError: There is no such file, or it holds something else.
    """
    lines = _lines(path)
    steps: list[PolicyStep] = []
    wanted = lines[-1].trial
    initial: Config = {}
    for line in reversed(lines):
        if line.trial != wanted:
            break
        steps.append(PolicyStep(line.donor_iteration, line.config))
        initial, wanted = line.donor_config, line.donor
    return initial, steps[::-1]


def _lines(path: str) -> list[_Line]:
    import json
    import os

    try:
        with open(os.path.expanduser(path), encoding="utf-8") as file:
            texts = [text for text in file if text.strip()]
    except OSError as error:
        raise ConfigError(
            f"The policy file {path} cannot be read ({error.strerror}). Give a pbt_policy_<trial id>.txt from the directory of "
            "an experiment with PopulationBasedTraining(log_config=True)."
        ) from error
    except UnicodeDecodeError as error:
        raise _foreign(path, 1) from error
    found = []
    for number, text in enumerate(texts, start=1):
        try:
            parts = json.loads(text)
        except ValueError as error:
            raise _foreign(path, number) from error
        if not _is_line(parts):
            raise _foreign(path, number)
        found.append(_Line(*parts))
    if not found:
        raise ConfigError(f"The policy file {path} is empty: the trial never went on from another one. Give another trial's.")
    return found


def _is_line(parts: Any) -> bool:
    kinds: list[Any] = [str, str, (int, float), (int, float), dict, dict]
    if not isinstance(parts, list) or len(parts) != len(kinds):
        return False
    return all(isinstance(part, kind) for part, kind in zip(parts, kinds, strict=True))


def _foreign(path: str, number: int) -> ConfigError:
    return ConfigError(
        f"{path} is no policy log: its line {number} is not a JSON list of trial, donor, iteration, donor's iteration, donor's "
        "configuration and new configuration. Give a pbt_policy_<trial id>.txt."
    )
