"""Training libraries in trials, for real and small: what is reported, and that a trial goes on from what was saved.

Those that take seconds to import run inline, where each is imported once.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

import holdfast as tune
from absent import needs
from holdfast.errors import ConfigError
from holdfast.integration.reports import chosen


def fitted(tmp_path, train, space, failures: int = 0, **options: Any):
    run_config = tune.RunConfig(
        name="exp", storage_path=str(tmp_path), verbose=0, failure_config=tune.FailureConfig(max_failures=failures), **options
    )
    results = tune.Tuner(train, param_space=space, run_config=run_config).fit()
    assert results.errors == []
    assert os.path.exists(os.path.join(results[0].path, "error.txt")) == bool(failures)
    return results


def cancer():
    data = load_breast_cancer()
    return train_test_split(data.data, data.target, test_size=0.3, random_state=0)


def fails_once(at: int):
    """Raises in the first attempt only, when called for the `at`-th time."""
    calls = 0
    first = tune.get_checkpoint() is None

    def maybe() -> None:
        nonlocal calls
        calls += 1
        if first and calls == at:
            raise ValueError("once")

    return maybe


# XGBoost


def with_xgboost(config):
    import xgboost

    from holdfast.integration.xgboost import TuneReportCheckpointCallback

    x, test_x, y, test_y = cancer()
    train, test = xgboost.DMatrix(x, label=y), xgboost.DMatrix(test_x, label=test_y)
    before = tune.get_checkpoint()
    model = TuneReportCheckpointCallback.get_model(before) if before else None
    done = model.num_boosted_rounds() if model else 0
    maybe = fails_once(7)

    class Failing(xgboost.callback.TrainingCallback):
        def after_iteration(self, model, epoch, evals_log):
            maybe()
            return False

    xgboost.train(
        {"objective": "binary:logistic", "eta": config["eta"], "eval_metric": ["logloss", "error"], "nthread": 1},
        train,
        num_boost_round=10 - done,
        evals=[(test, "eval")],
        xgb_model=model,
        callbacks=[Failing(), TuneReportCheckpointCallback(frequency=5)],
    )


def test_xgboost_goes_on_from_its_model(tmp_path):
    from holdfast.integration.xgboost import TuneReportCheckpointCallback

    for result in fitted(tmp_path, with_xgboost, {"eta": tune.grid_search([0.1, 0.5])}, failures=1):
        rows = result.metrics_dataframe
        assert list(rows["training_iteration"]) == list(range(1, 11))
        assert rows["eval-logloss"].iloc[-1] < rows["eval-logloss"].iloc[0]
        model = TuneReportCheckpointCallback.get_model(result.checkpoint)
        assert model.num_boosted_rounds() == 10


def with_xgboost_metrics(config):
    import xgboost

    from holdfast.integration.xgboost import TuneReportCallback, TuneReportCheckpointCallback

    x, test_x, y, test_y = cancer()
    train, test = xgboost.DMatrix(x, label=y), xgboost.DMatrix(test_x, label=test_y)
    callback = (
        TuneReportCallback({"loss": "eval-logloss"})
        if config["plain"]
        else TuneReportCheckpointCallback("twice", results_postprocessing_fn=lambda told: {"twice": 2 * told["eval-logloss"]})
    )
    xgboost.train({"objective": "binary:logistic", "nthread": 1}, train, 2, evals=[(test, "eval")], callbacks=[callback])


def test_xgboost_reports_what_is_asked_for(tmp_path):
    plain, processed = fitted(tmp_path, with_xgboost_metrics, {"plain": tune.grid_search([True, False])})
    assert (len(plain.metrics_dataframe), plain.checkpoint) == (2, None)
    assert len(processed.metrics_dataframe) == 3  # two rounds, and the trained model
    assert processed.checkpoint is not None
    assert processed.metrics["twice"] == pytest.approx(2 * plain.metrics["loss"])


# LightGBM


def with_lightgbm(config):
    import lightgbm

    from holdfast.integration.lightgbm import TuneReportCallback, TuneReportCheckpointCallback

    x, test_x, y, test_y = cancer()
    data = lightgbm.Dataset(x, label=y)
    params = {"objective": "binary", "learning_rate": 0.2, "verbose": -1, "num_threads": 1, "min_data_in_leaf": 5}
    if config["how"] == "cv":
        lightgbm.cv(params, data, num_boost_round=3, nfold=2, callbacks=[TuneReportCallback()])
        return
    before = tune.get_checkpoint()
    model = TuneReportCheckpointCallback.get_model(before) if before else None
    maybe = fails_once(7)
    lightgbm.train(
        params,
        data,
        num_boost_round=10 - (model.current_iteration() if model else 0),
        valid_sets=[data.create_valid(test_x, label=test_y)],
        valid_names=["eval"],
        init_model=model,
        callbacks=[lambda env: maybe(), TuneReportCheckpointCallback({"loss": "eval-binary_logloss"}, frequency=5)],
    )


def test_lightgbm_goes_on_from_its_model_and_reports_cross_validations(tmp_path):
    from holdfast.integration.lightgbm import TuneReportCheckpointCallback

    trained, crossed = fitted(tmp_path, with_lightgbm, {"how": tune.grid_search(["train", "cv"])}, failures=1)
    losses = list(trained.metrics_dataframe["loss"])
    assert len(losses) == 10
    assert losses[-1] < losses[0]
    assert TuneReportCheckpointCallback.get_model(trained.checkpoint).current_iteration() == 10
    assert {"valid-binary_logloss-mean", "valid-binary_logloss-stdv"} <= set(crossed.metrics)
    assert (len(crossed.metrics_dataframe), crossed.checkpoint) == (3, None)


# PyTorch, plain


def digits():
    data = load_digits()
    return data.data.astype(np.float32) / 16.0, data.target


def with_torch(config):
    import tempfile

    import torch

    torch.manual_seed(0)
    x, y = (torch.from_numpy(part) for part in digits())
    model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    start, maybe, before = 0, fails_once(3), tune.get_checkpoint()
    if before:
        state = torch.load(os.path.join(before.path, "state.pt"))
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["epoch"]
    for epoch in range(start, 5):
        loss = torch.nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        maybe()
        with tempfile.TemporaryDirectory() as folder:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch + 1}
            torch.save(state, os.path.join(folder, "state.pt"))
            tune.report({"loss": loss.item()}, checkpoint=tune.Checkpoint.from_directory(folder))


@needs("torch")
def test_plain_pytorch_goes_on_as_if_nothing_had_happened(tmp_path):
    (broken,) = fitted(tmp_path / "a", with_torch, {"lr": 0.01}, failures=1)
    losses = list(broken.metrics_dataframe["loss"])
    assert len(losses) == 5
    assert losses == sorted(losses, reverse=True)


# PyTorch Lightning


def with_lightning(config):
    import lightning.pytorch as pl
    import torch

    from holdfast.integration.pytorch_lightning import TuneReportCallback, TuneReportCheckpointCallback

    class Digits(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(64, 10)

        def training_step(self, batch, number):
            return torch.nn.functional.cross_entropy(self.layer(batch[0]), batch[1])

        def validation_step(self, batch, number):
            self.log("val_loss", self.training_step(batch, number))

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=0.01)

    maybe = fails_once(3)

    class Failing(pl.Callback):
        def on_train_epoch_start(self, trainer, module):
            maybe()

    x, y = (torch.from_numpy(part) for part in digits())
    batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=256)
    report = (
        TuneReportCheckpointCallback({"loss": "val_loss"})
        if config["saves"]
        else TuneReportCallback("val_loss", on="validation_epoch_end")
    )
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(max_epochs=4, accelerator="cpu", callbacks=[Failing(), report] if config["saves"] else [report], **quiet)
    before = tune.get_checkpoint()
    path = os.path.join(before.path, "checkpoint") if before else None
    trainer.fit(Digits(), batches, batches, ckpt_path=path)


@needs("torch", "lightning")
@pytest.mark.filterwarnings("ignore")  # inline, the libraries' own warnings are raised here
def test_lightning_reports_validations_and_goes_on(tmp_path):
    saved, plain = fitted(tmp_path, with_lightning, {"saves": tune.grid_search([True, False])}, failures=1, engine="inline")
    losses = list(saved.metrics_dataframe["loss"])
    assert len(losses) == 4
    assert losses == sorted(losses, reverse=True)
    assert saved.checkpoint is not None
    assert (len(plain.metrics_dataframe), plain.checkpoint) == (4, None)


@needs("torch", "lightning")
def test_lightning_and_keras_refuse_what_never_happens(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    from holdfast.integration.keras import ReportCheckpointCallback
    from holdfast.integration.pytorch_lightning import TuneReportCallback

    with pytest.raises(ConfigError, match="no hook on_dance"):
        TuneReportCallback(on="dance")
    with pytest.raises(ConfigError, match="no event 'dance'"):
        ReportCheckpointCallback(checkpoint_on="dance")


# Keras


def with_keras(config):
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    from holdfast.integration.keras import ReportCheckpointCallback

    x, y = digits()
    before, maybe = tune.get_checkpoint(), fails_once(3)
    if before:
        model = ReportCheckpointCallback.get_model(before)
    else:
        model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])

    class Failing(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            maybe()

    start = tune.get_checkpoint() and 2
    callback = ReportCheckpointCallback(metrics={"acc": "accuracy", "loss": "loss"})
    model.fit(x, y, epochs=4, initial_epoch=start or 0, batch_size=256, verbose=0, callbacks=[Failing(), callback])


@needs("torch")
@pytest.mark.filterwarnings("ignore")  # inline, the libraries' own warnings are raised here
def test_keras_on_torch_reports_epochs_and_goes_on(tmp_path):
    (result,) = fitted(tmp_path, with_keras, {"x": 1}, failures=1, engine="inline")
    rows = result.metrics_dataframe
    assert len(rows) == 4
    assert list(rows["loss"]) == sorted(rows["loss"], reverse=True)
    assert rows["acc"].iloc[-1] > 0.5


# Hugging Face Transformers


def with_transformers(config):
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

    from holdfast.integration.transformers import TuneReportCheckpointCallback

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = BertForSequenceClassification(BertConfig(vocab_size=8, num_labels=2, **sizes))
    tokens = torch.randint(0, 8, (64, 6))
    data = [{"input_ids": row, "attention_mask": torch.ones(6), "labels": row[0] % 2} for row in tokens]
    when = "epoch" if config["saves"] else "no"
    arguments = TrainingArguments(
        os.path.join(tune.get_context().get_trial_dir(), "out"),
        num_train_epochs=4,
        per_device_train_batch_size=16,
        learning_rate=1e-2,
        eval_strategy="epoch",
        save_strategy=when,
        logging_strategy="epoch",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    maybe = fails_once(3)

    class Failing(TuneReportCheckpointCallback):
        def on_epoch_begin(self, args, state, control, **kwargs):
            maybe()

    report = (
        Failing({"loss": "eval_loss", "epoch": "epoch"})
        if config["saves"]
        else TuneReportCheckpointCallback(save_checkpoints=False)
    )
    trainer = Trainer(model, arguments, train_dataset=data, eval_dataset=data, callbacks=[report])
    trainer.train(resume_from_checkpoint=TuneReportCheckpointCallback.resume_from(tune.get_checkpoint()))


@needs("torch", "transformers", "accelerate")
@pytest.mark.filterwarnings("ignore")  # inline, the libraries' own warnings are raised here
def test_transformers_reports_evaluations_and_goes_on(tmp_path):
    saved, plain = fitted(tmp_path, with_transformers, {"saves": tune.grid_search([True, False])}, failures=1, engine="inline")
    rows = saved.metrics_dataframe
    assert list(rows["epoch"]) == [1.0, 2.0, 3.0, 4.0]
    assert rows["loss"].iloc[-1] < rows["loss"].iloc[0]
    assert (len(plain.metrics_dataframe), plain.checkpoint) == (4, None)
    assert "eval_loss" in plain.metrics


# scikit-learn


def with_sklearn(config):
    x, test_x, y, test_y = train_test_split(*digits(), random_state=0)
    model = SGDClassifier(alpha=config["alpha"], random_state=0)
    for _ in range(3):
        model.partial_fit(x, y, classes=range(10))
        tune.report({"accuracy": model.score(test_x, test_y)})


def test_scikit_learn_needs_no_callback(tmp_path):
    results = fitted(tmp_path, with_sklearn, {"alpha": tune.grid_search([1e-4, 1e-2])})
    assert results.get_best_result("accuracy", "max").metrics["accuracy"] > 0.85


def test_metrics_are_chosen_by_name():
    found = {"a": 1, "b": 2}
    assert chosen(None, found) == found
    assert chosen("a", found) == {"a": 1}
    assert chosen(["b"], found) == {"b": 2}
    assert chosen({"x": "b"}, found) == {"x": 2}
    with pytest.raises(ConfigError, match="there is no c; there are a, b"):
        chosen("c", found)
