"""A trial that trains with two torch processes, each in a bundle of its own on a Ray cluster.

    pip install 'holdfast[ray]' torch
    python examples/ray_workers.py

The trial itself asks for nothing: it starts its workers inside its placement group, has them train, and reports what they
found, with a checkpoint. When a worker or its node is lost, the trial fails and goes on from its newest checkpoint; when
the driver is killed, the workers end with it.
"""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path
from typing import Any

import ray
import torch
from torch import distributed, nn

import holdfast as tune

WORKERS = 2
EPOCHS = 8


@ray.remote(num_cpus=1)
class Worker:
    """One process of the group: it has a part of the data, and averages its gradients with the others'."""

    def address(self) -> str:
        """Where the group meets, if this is its first worker."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            return f"tcp://{ray.util.get_node_ip_address()}:{probe.getsockname()[1]}"

    def join(self, rank: int, address: str, lr: float, state: dict[str, Any] | None) -> None:
        distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=WORKERS)
        torch.manual_seed(0)
        self.model = nn.Linear(4, 1)
        if state is not None:
            self.model.load_state_dict(state)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=lr)
        chance = torch.Generator().manual_seed(rank)
        self.x = torch.randn(256, 4, generator=chance)
        self.y = self.x @ torch.tensor([[1.0], [-2.0], [3.0], [0.5]])

    def train(self) -> float:
        """One epoch; the loss over all workers' data."""
        loss = nn.functional.mse_loss(self.model(self.x), self.y)
        self.optimizer.zero_grad()
        loss.backward()
        for parameter in self.model.parameters():
            distributed.all_reduce(parameter.grad)
            parameter.grad /= WORKERS
        self.optimizer.step()
        total = loss.detach().clone()
        distributed.all_reduce(total)
        return float(total) / WORKERS

    def state(self) -> dict[str, Any]:
        return self.model.state_dict()


def train(config: dict[str, Any]) -> None:
    """The trial."""
    begin, state, newest = 0, None, tune.get_checkpoint()
    if newest is not None:
        with newest.as_directory() as folder:
            saved = torch.load(Path(folder, "model.pt"))
        begin, state = saved["epoch"], saved["state"]
    workers = [Worker.remote() for _ in range(WORKERS)]
    address = ray.get(workers[0].address.remote())
    ray.get([worker.join.remote(rank, address, config["lr"], state) for rank, worker in enumerate(workers)])
    for epoch in range(begin, EPOCHS):
        losses = ray.get([worker.train.remote() for worker in workers])
        states = ray.get([worker.state.remote() for worker in workers])
        with tempfile.TemporaryDirectory() as folder:
            torch.save({"epoch": epoch + 1, "state": states[0]}, Path(folder, "model.pt"))
            same = all(torch.equal(states[0][name], states[1][name]) for name in states[0])
            row = {"loss": losses[0], "same": same, "begin": begin}
            tune.report(row, checkpoint=tune.Checkpoint.from_directory(folder))
        if epoch == config.get("loses_a_worker") and newest is None:
            ray.kill(workers[1])


def main(storage_path: str | None = None, **more: Any) -> tune.ResultGrid:
    """Tunes the learning rate."""
    bundles = tune.PlacementGroupFactory([{}] + [{"CPU": 1}] * WORKERS)
    tuner = tune.Tuner(
        tune.with_resources(train, bundles),
        param_space={"lr": tune.grid_search([0.05, 0.2]), **more},
        tune_config=tune.TuneConfig(metric="loss", mode="min"),
        run_config=tune.RunConfig(
            name="ray_workers",
            storage_path=storage_path,
            engine="ray",
            failure_config=tune.FailureConfig(max_failures=1),
            verbose=0,
        ),
    )
    return tuner.fit()


if __name__ == "__main__":
    print(main().get_best_result().metrics)
