"""Users' code on the local engine: wherever it was written, whatever it loads, whichever thread it reports from."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from holdfast import values
from holdfast._worker.protocol import LARGEST_ROW
from holdfast.engines.local import LocalEngine
from holdfast.errors import ConfigError
from holdfast.session import get_context, report
from holdfast.testing.engine_suite import Stage, make_job, make_order

Opener = Callable[..., Stage]


@pytest.fixture
def open_stage(tmp_path: Path) -> Iterator[Opener]:
    stages: list[Stage] = []

    def opened(trainable: Callable[..., Any], **changes: Any) -> Stage:
        stages.append(Stage(LocalEngine(cpus=2), make_job(tmp_path, trainable, **changes)))
        return stages[-1]

    yield opened
    for stage in stages:
        stage.engine.close()


PROGRAM = """
import sys
from pathlib import Path
print("the script runs in", __name__, flush=True)
FACTOR = 4
class Mistake(Exception):
    pass
def scaled(x):
    return FACTOR * x
def trainable(config):
    if config["x"] < 0:
        raise Mistake("negative")
    return {"value": scaled(config["x"]), "module": __name__}
from holdfast.engines.local import LocalEngine
from holdfast.testing.engine_suite import Stage, make_job, make_order
import cloudpickle
stage = Stage(LocalEngine(cpus=1), make_job(Path(ROOT), trainable))
good, bad = make_order(0, {"x": 5}), make_order(1, {"x": -1})
try:
    stage.run(good, bad)
    print(stage.metrics_of(good))
    print(type(cloudpickle.loads(stage.end_of(bad).failure.exception)) is Mistake)
finally:
    stage.engine.close()
"""
EXPECTED = "the script runs in __main__\n[{'value': 20, 'module': '__main__'}]\nTrue\n"


@pytest.mark.parametrize("form", ["-c", "stdin", "script", "exec"])
def test_code_of_the_main_module_travels_and_is_not_run_again(tmp_path: Path, form: str) -> None:
    code, arguments, text = f"ROOT = {str(tmp_path)!r}\n{PROGRAM}", [], None
    if form == "-c":
        arguments = ["-c", code]
    elif form == "stdin":
        arguments, text = ["-"], code
    elif form == "script":
        (tmp_path / "script.py").write_text(code)
        arguments = [str(tmp_path / "script.py")]
    else:  # as a notebook does: one block after another in one namespace, without a file
        first, second = code.split("class ", 1)
        cells = [first, f"class {second}"]
        arguments = ["-c", f"for cell in {cells!r}: exec(compile(cell, '<cell>', 'exec'), globals())"]
    done = subprocess.run([sys.executable, *arguments], input=text, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == (EXPECTED, "")


@pytest.mark.parametrize("loaded", ["before", "after"])
def test_numerical_libraries_work_after_the_fork(open_stage: Opener, loaded: str) -> None:
    import pandas as pd
    from sklearn.linear_model import LogisticRegression

    def uses_globals(config: dict[str, Any]) -> dict[str, Any]:
        points = np.random.rand(200, 5)
        product = float(np.linalg.norm(points @ points.T))
        model = LogisticRegression().fit(points, points[:, 0] > 0.5)
        return {"rows": len(pd.DataFrame(points)), "positive": product > 0, "score": model.score(points, points[:, 0] > 0.5)}

    def imports_itself(config: dict[str, Any]) -> dict[str, Any]:
        import numpy as np
        import pandas as pd
        from sklearn.linear_model import LogisticRegression

        points = np.random.rand(200, 5)
        product = float(np.linalg.norm(points @ points.T))
        model = LogisticRegression().fit(points, points[:, 0] > 0.5)
        return {"rows": len(pd.DataFrame(points)), "positive": product > 0, "score": model.score(points, points[:, 0] > 0.5)}

    stage, orders = open_stage(uses_globals if loaded == "before" else imports_itself), [make_order(n) for n in range(2)]
    ends = stage.run(*orders)
    assert [end.failure for end in ends] == [None, None]
    for order in orders:
        row = stage.metrics_of(order)[0]
        assert (row["rows"], row["positive"]) == (200, True)
        assert row["score"] > 0.8


def test_the_server_has_no_thread_to_miss_and_has_loaded_what_the_trainable_needs(open_stage: Opener) -> None:
    import sklearn.svm

    def trainable(config: dict[str, Any]) -> dict[str, Any]:
        assert sklearn.svm and np  # which loads them here in any case: the server's own memory says what it holds
        loaded = Path(f"/proc/{os.getppid()}/maps").read_text()
        held = [name for name in ("numpy", "sklearn/svm") if f"/{name}/" in loaded]
        names = [Path(path, "comm").read_text().strip() for path in Path(f"/proc/{os.getppid()}/task").iterdir()]
        return {"held": held, "threads": [name for name in names if name != "jemalloc_bg_thd"]}

    stage, order = open_stage(trainable), make_order()
    stage.run(order)
    (row,) = stage.metrics_of(order)
    assert (row["held"], len(row["threads"])) == (["numpy", "sklearn/svm"], 1), "none but jemalloc's, where pyarrow is installed"


def test_a_module_that_starts_threads_is_not_held_by_the_server(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "threaded_library.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
    )

    def trainable(config: dict[str, Any]) -> dict[str, Any]:
        loaded = "threaded_library" in sys.modules
        import threaded_library

        return {"loaded": loaded, "threads": len(os.listdir(f"/proc/{os.getppid()}/task")), "works": bool(threaded_library)}

    job, order = make_job(tmp_path, trainable, sys_path=[str(tmp_path / "site"), *map(os.path.abspath, sys.path)]), make_order()
    stage = Stage(LocalEngine(cpus=1, preload=["threaded_library"]), job)
    try:
        stage.run(order)
    finally:
        stage.engine.close()
    assert stage.metrics_of(order) == [{"loaded": False, "threads": 1, "works": True}]


def test_chance_is_given_to_each_trial(open_stage: Opener) -> None:
    def early(config: dict[str, Any]) -> dict[str, float]:
        import random

        return {"random": random.random(), "numpy": float(np.random.rand())}

    def late(config: dict[str, Any]) -> dict[str, float]:
        import importlib
        import random

        name = config["library"]  # a name that the code itself does not hold, so that nothing loads it ahead
        assert name not in sys.modules
        drawn = random.random()
        library = importlib.import_module(name)
        return {"random": drawn, name: float(library.random.rand())}

    rows = []
    for trainable in (early, late):
        stage = open_stage(trainable)
        config = {"library": "numpy"}
        orders = [make_order(0, config), make_order(1, config), make_order(0, config, attempt=2)]
        for order in orders:
            assert stage.run(order)[0].failure is None
        drawn = [stage.metrics_of(order)[0] for order in orders]
        assert drawn[0] == drawn[2] != drawn[1]
        rows.append(drawn)
    assert rows[0] == rows[1]


def test_any_thread_may_report_and_a_stop_there_ends_the_main_thread(open_stage: Opener) -> None:
    def trainable(config: dict[str, Any]) -> None:
        import threading

        def helper() -> None:
            for step in range(1000):
                report({"step": step})

        try:
            thread = threading.Thread(target=helper)
            thread.start()
            thread.join()
            threading.Event().wait(600)
        finally:
            Path("unwound").write_text("yes")

    stage, order = open_stage(trainable), make_order()
    stage.answers[0, 5] = "STOP"
    (end,) = stage.run(order)
    assert (end.outcome, len(stage.rows_of(order))) == ("stopped", 5)
    assert Path(stage.dir_of(order), "unwound").exists()


def test_a_child_process_may_not_report(open_stage: Opener) -> None:
    def trainable(config: dict[str, Any]) -> None:
        child = os.fork()
        if child == 0:
            try:
                report({"from": "child"})
            except ValueError as error:
                Path("forked").write_text(str(error))
            os._exit(0)
        os.waitpid(child, 0)
        code = "import holdfast.session as s\ntry:\n  s.report({})\nexcept ValueError as e:\n  open('started', 'w').write(str(e))"
        subprocess.run([sys.executable, "-c", code], check=True)
        report({"from": "trial"})

    stage, order = open_stage(trainable), make_order()
    (end,) = stage.run(order)
    assert end.failure is None
    assert stage.metrics_of(order) == [{"from": "trial"}]
    for name in ("forked", "started"):
        assert "child process of a trial" in Path(stage.dir_of(order), name).read_text()


def test_rows_that_cannot_be_taken_are_refused_and_the_trial_goes_on(open_stage: Opener) -> None:
    def trainable(config: dict[str, Any]) -> None:
        import threading

        refusals = []
        for row in ({"blob": bytes(100_000_000)}, {"lock": threading.Lock()}, [1], None):
            try:
                report(row)
            except ValueError as error:
                refusals.append(str(error)[:60])
        report({"refusals": refusals})

    stage, order = open_stage(trainable), make_order()
    (end,) = stage.run(order)
    assert end.failure is None
    (row,) = stage.metrics_of(order)
    assert len(row["refusals"]) == 4
    assert [row.number for row in stage.rows_of(order)] == [1]


def test_a_row_just_below_the_bound_travels(open_stage: Opener) -> None:
    stage, order = open_stage(lambda config: {"blob": bytes(config["size"])}), make_order(config={"size": LARGEST_ROW - 100})
    stage.run(order)
    assert len(stage.metrics_of(order)[0]["blob"]) == LARGEST_ROW - 100


def test_a_large_config_travels(open_stage: Opener) -> None:
    stage, order = open_stage(lambda config: len(config["blob"])), make_order(config={"blob": bytes(20_000_000)})
    stage.run(order)
    assert stage.metrics_of(order) == [{"_metric": 20_000_000}]


def test_objects_in_the_config_come_from_the_definitions(open_stage: Opener, tmp_path: Path) -> None:
    (tmp_path / "definitions").mkdir()

    def store(pickled: bytes) -> str:
        import hashlib

        name = hashlib.sha256(pickled).hexdigest()
        (tmp_path / "definitions" / f"{name}.pkl").write_bytes(pickled)
        return name

    config = {"kind": complex, "call": lambda x: x + 1, "pair": (1, b"x"), 3: np.float32(0.5)}
    order = make_order()

    def trainable(config: dict[Any, Any]) -> dict[str, Any]:
        kinds = [type(config[key]).__name__ for key in ("pair", 3)]
        return {"sum": config["call"](config["kind"](1, 2)).real, "types": kinds}

    stage = open_stage(trainable)
    from msgspec.structs import replace

    stage.run(replace(order, config=values.encode(config, store)))
    assert stage.metrics_of(order) == [{"sum": 2.0, "types": ["tuple", "float32"]}]


def test_what_a_function_returns_or_yields_is_a_row(open_stage: Opener) -> None:
    def trainable(config: dict[str, Any]) -> Any:
        if config["kind"] == "generator":

            def steps() -> Iterator[Any]:
                try:
                    for step in range(10):
                        yield step
                        yield {"step": step}
                        yield None
                finally:
                    Path("closed").write_text("yes")

            return steps()
        return {"zero": 0, "numpy": np.float64(1.5), "row": {"a": (1, 2)}, "nothing": None, "text": "no"}[config["kind"]]

    stage = open_stage(trainable)
    kinds = ["zero", "numpy", "row", "nothing", "text", "generator"]
    orders = [make_order(index, {"kind": kind}) for index, kind in enumerate(kinds)]
    stage.answers[5, 3] = "STOP"
    outcomes = [stage.run(order)[0].outcome for order in orders]
    assert outcomes == ["completed", "completed", "completed", "completed", "failed", "stopped"]
    assert [stage.metrics_of(order) for order in orders] == [
        [{"_metric": 0}],
        [{"_metric": 1.5}],
        [{"a": (1, 2)}],
        [],
        [],
        [{"_metric": 0}, {"step": 0}, {"_metric": 1}],
    ]
    assert Path(stage.dir_of(orders[5]), "closed").exists()


def test_done_in_a_row_is_marked(open_stage: Opener) -> None:
    def trainable(config: dict[str, Any]) -> None:
        report({"a": 1})
        report({"a": 2, "done": True})

    stage, order = open_stage(trainable), make_order()
    stage.run(order)
    assert [row.done for row in stage.rows_of(order)] == [False, True]


def test_output_lands_in_the_log_and_an_empty_log_is_removed(open_stage: Opener, tmp_path: Path) -> None:
    def trainable(config: dict[str, Any]) -> None:
        if config["talk"]:
            print("to stdout")
            print("to stderr", file=sys.stderr)
            os.system("echo from a child")

    stage = open_stage(trainable)
    stage.run(make_order(0, {"talk": True}), make_order(1, {"talk": False}))
    assert (tmp_path / "logs" / "abcde_00000-1.log").read_text() == "to stdout\nto stderr\nfrom a child\n"
    stage.engine.close()
    assert os.listdir(tmp_path / "logs") == ["abcde_00000-1.log"]


def test_output_is_echoed_line_by_line(open_stage: Opener, capfd: pytest.CaptureFixture[str]) -> None:
    def trainable(config: dict[str, Any]) -> None:
        print("one")
        sys.stdout.write("no end")
        report({"a": 1})

    stage, order = open_stage(trainable, echo=True), make_order()
    stage.run(order)
    pid = stage.pid_of(order)
    assert capfd.readouterr().out == f"(trial_0 pid={pid}) one\n(trial_0 pid={pid}) no end\n"


def test_log_to_file_names_files_in_the_trials_directory(open_stage: Opener, tmp_path: Path) -> None:
    def trainable(config: dict[str, Any]) -> None:
        print("out")
        print("err", file=sys.stderr)
        raise ValueError

    stage, order = open_stage(trainable, log_to_file=("stdout", "stderr")), make_order()
    (end,) = stage.run(order)
    assert end.failure is not None
    assert end.failure.log_tail == "err\n"
    assert Path(stage.dir_of(order), "stdout").read_text() == "out\n"


def test_names_that_leave_the_experiment_are_refused(open_stage: Opener, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leads out"):
        LocalEngine(cpus=1).open(make_job(tmp_path, print, log_to_file=("../x", "y")))
    for name in ("../elsewhere", "a/b", "", "..", "/tmp/x"):
        with pytest.raises(ConfigError, match="plain name"):
            open_stage(print).engine.start(make_order(dirname=name))


def test_the_working_directory_may_stay_the_drivers(open_stage: Opener) -> None:
    def trainable(config: dict[str, Any]) -> dict[str, Any]:
        context = get_context()
        assert context is not None
        return {"cwd": os.getcwd(), "orig": os.environ["TUNE_ORIG_WORKING_DIR"], "dir": os.path.isdir(context.get_trial_dir())}

    stage, order = open_stage(trainable, chdir=False), make_order()
    stage.run(order)
    assert stage.metrics_of(order) == [{"cwd": os.getcwd(), "orig": os.getcwd(), "dir": True}]


def test_a_worker_sees_the_drivers_environment_and_default_signals(open_stage: Opener) -> None:
    def trainable(config: dict[str, Any]) -> dict[str, Any]:
        import signal

        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
        blocked = [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])]
        return {"mine": os.environ["MINE"], "handlers": [str(signal.getsignal(number)) for number in numbers], "blocked": blocked}

    stage, order = open_stage(trainable, environment={**os.environ, "MINE": "ü"}), make_order()
    stage.run(order)
    (row,) = stage.metrics_of(order)
    assert row["mine"] == "ü"
    assert "default_int_handler" in row["handlers"][0]
    assert row["handlers"][1:] == [str(__import__("signal").SIG_DFL)] * 3
    assert row["blocked"] == []


def test_sys_exit_is_a_failure_and_exit_handlers_run(open_stage: Opener) -> None:
    def trainable(config: dict[str, Any]) -> None:
        import atexit
        import multiprocessing
        import time

        atexit.register(Path("handled").write_text, "yes")
        multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,)).start()
        sys.exit(0)

    stage, order = open_stage(trainable), make_order()
    (end,) = stage.run(order)
    assert end.failure is not None
    assert (end.outcome, end.failure.kind) == ("failed", "code")
    assert Path(stage.dir_of(order), "handled").read_text() == "yes"


def test_an_exception_that_cannot_be_pickled_still_says_what_happened(open_stage: Opener) -> None:
    def trainable(config: dict[str, Any]) -> None:
        import threading

        class Stubborn(Exception):
            pass

        error = Stubborn("kept in words")
        error.lock = threading.Lock()  # type: ignore[attr-defined]
        raise error

    (end,) = open_stage(trainable).run(make_order())
    assert end.failure is not None
    assert end.failure.exception == b""
    assert "Stubborn: kept in words" in end.failure.message


def test_a_full_disk_while_saving_ends_the_attempt_as_a_storage_failure(open_stage: Opener) -> None:
    def trainable(config: dict[str, Any]) -> None:
        import resource
        import signal

        from holdfast.checkpoint import Checkpoint

        Path("work").mkdir()
        Path("work", "file").write_bytes(bytes(100_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        try:
            report({"a": 1}, checkpoint=Checkpoint("work"))
        except Exception:  # noqa: BLE001 - what a careless trial does
            report({"swallowed": 1})

    stage, order = open_stage(trainable), make_order()
    (end,) = stage.run(order)
    assert end.failure is not None
    assert (end.outcome, end.failure.kind) == ("failed", "storage")
    assert stage.rows_of(order) == []
    assert os.listdir(stage.dir_of(order)) == ["work"]
