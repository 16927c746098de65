"""What `show` prints. Knows the tables of `_projection`; computes nothing."""

from __future__ import annotations

from typing import Any

from holdfast._projection.rows import own_metrics
from holdfast.cli.text import ago, columns, echo, pairs, size, when

__all__ = ["show_experiment", "show_trial"]

_MOST_ROWS = 20


def show_experiment(told: dict[str, Any], trials: list[dict[str, Any]]) -> None:
    """Prints an experiment."""
    echo(f"{told['name']}  {told['state']}  {told['path']}")
    counts = ", ".join(f"{count} {status}" for status, count in told["trials"].items()) or "none"
    asked = "as many as there are" if told["samples"] < 0 else told["samples"]
    echo(f"  trials    {counts} (asked for: {asked}); {told['failures']} failed attempts")
    echo(f"  time      {told['seconds']:.1f} s in charge, last change {when(told['last_change'])} ({ago(told['last_change'])})")
    echo(f"  job       {told['trainable']}, seed {told['seed']}, {told['records']} records, id {told['experiment_id']}")
    echo(f"  versions  {pairs(told['versions'])}")
    _show_disk(told["checkpoints"])
    if told["stopping"]:
        echo(f"  stopping  by {told['stopping']}")
    if told["held"]:
        echo("  paused    by request; `holdfast resume` lets it go on")
    best = told["best"]
    if best is not None:
        echo(f"  best      {best['trial_id']}  {best['metric']}={best['value']:.6g} ({best['mode']})  {pairs(best['config'])}")
    echo("\ndrivers")
    drivers = ("epoch", "began", "in charge", "records", "ended", "engine", "where")
    lines = [_driver(epoch, told) for epoch in told["epochs"]]
    echo(columns(drivers, lines, "  "))
    for it in told["extensions"]:
        changes = "; ".join(f"{what}: {how}" for what, how in it["changed"].items())
        echo(f"  extended by driver {it['epoch']}, {when(it['when'])}: {changes}")
    for cut in told["cuts"]:
        echo(f"  torn tail cut: {cut['size']} bytes of {cut['file']} at byte {cut['offset']}, kept in journal/cut")
    for inexact in told["inexact"]:
        echo(f"  inexact: {inexact['plugin']} from position {inexact['position']}: {inexact['detail']}")
    if trials:
        echo("\ntrials")
        heads = ("id", "status", "rows", "attempts", "failures", "checkpoints", "parameters", "newest row")
        echo(columns(heads, [_trial_line(trial) for trial in trials], "  "))


def _show_disk(told: dict[str, Any]) -> None:
    if not told["kept"] and not told["pending"]:
        return
    text = f"{told['kept']} kept, {size(told['bytes'])}"
    if told["max_total_bytes"]:
        text += f" (max_total_bytes: {size(told['max_total_bytes'])})"
    if told["pending"]:
        text += f"; {told['pending']} pending, {size(told['pending_bytes'])}: staged, not durable yet"
    echo(f"  saved     {text}")
    if told["exceeded_by"]:
        echo(f"            max_total_bytes is exceeded by {size(told['exceeded_by'])}: {told['exceeded_because']}")


def _driver(epoch: dict[str, Any], told: dict[str, Any]) -> tuple[object, ...]:
    newest = epoch["number"] == told["epochs"][-1]["number"]
    ended = epoch["reason"] or (told["state"] if newest else "killed")
    where = f"pid {epoch['pid']} on {epoch['host']}"
    return epoch["number"], when(epoch["began"]), f"{epoch['seconds']:.1f} s", epoch["records"], ended, epoch["engine"], where


def _trial_line(trial: dict[str, Any]) -> tuple[object, ...]:
    counted = (trial["rows"], trial["attempts"], trial["failures"], trial["checkpoints"])
    status = trial["status"] + (" (held)" if trial["held"] else "")
    return trial["trial_id"], status, *counted, pairs(trial["parameters"]), pairs(trial["metrics"], 4)


def show_trial(told: dict[str, Any]) -> None:
    """Prints a trial."""
    stopped = f", stopped by {told['stopped_by']}" if told["stopped_by"] else ""
    branch = f", branch {told['branch']}" if told["branch"] else ""
    held = ", paused by request" if told["held"] else ""
    echo(f"{told['trial_id']}  {told['status']}{stopped}{held}{branch}  {told['directory']}")
    echo(f"  config    {pairs(told['config'], 100)}")
    if told["failures"] or told["spent"]:
        spent = {"max_failures": told["failures"], **told["spent"]}
        echo(f"  failures  {pairs({budget: count for budget, count in spent.items() if count}, 10)}")
    echo("\nattempts")
    heads = ("attempt", "began", "ended", "outcome", "rows", "where")
    echo(columns(heads, [_attempt_line(attempt) for attempt in told["attempts"]], "  "))
    for attempt in told["attempts"]:
        if "failure" in attempt:
            _show_failure(attempt["number"], attempt["failure"])
    rows = told["rows"]
    echo(f"\nrows ({len(rows)})")
    hidden = max(0, len(rows) - _MOST_ROWS)
    if hidden:
        echo(f"  ... {hidden} earlier ones (--json shows all)")
    for number, row in list(enumerate(rows, 1))[hidden:]:
        echo(f"  {number}  {row['time_total_s']:.1f} s  {pairs(own_metrics(row), 10)}")
    if told["checkpoints"]:
        echo("\ncheckpoints")
        lines = [
            (
                kept["name"],
                kept["row"],
                kept["files"],
                size(kept["bytes"]),
                "" if kept["score"] is None else kept["score"],
                kept["why"],
            )
            for kept in told["checkpoints"]
        ]
        echo(columns(("name", "row", "files", "size", "score", "kept because"), lines, "  "))
    for kept in told["pending"]:
        echo(f"  pending: {kept['name']} of row {kept['row']}, {size(kept['bytes'])}: staged, not durable yet")
    for lost in told["lost"]:
        echo(f"  lost: {lost['name']}, which was pending: {lost['problem']}")
    if told["dropped"]:
        echo(f"  given up: {', '.join(told['dropped'])}")
    if "superseded" in told:
        echo(f"\nsuperseded rows ({len(told['superseded'])})")
        for old in told["superseded"]:
            origin = f"{old['why']}, attempt {old['attempt']}, branch {old['branch']}"
            echo(f"  {old['number']}  {origin}  {pairs(own_metrics(old['row']), 10)}")


def _attempt_line(attempt: dict[str, Any]) -> tuple[object, ...]:
    rows = "-".join(map(str, attempt["rows"])) or "none"
    outcome = attempt["outcome"] + (f" ({attempt['cause']})" if attempt["cause"] else "")
    where = f"pid {attempt['pid']} on {attempt['host']}" if attempt["host"] else "-"
    return attempt["number"], when(attempt["began"]), when(attempt["ended"]), outcome, rows, where


def _show_failure(number: int, failure: dict[str, Any]) -> None:
    echo(f"\nattempt {number} failed ({failure['how']}): {failure['message']}")
    for part in (failure["traceback"], failure["log_tail"]):
        if part:
            echo("\n".join(f"    {line}" for line in part.rstrip().splitlines()))
