"""Training on several devices of one machine: a process for each, this one listens to them."""

import os
import queue
import socket
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import multiprocessing
from torch.multiprocessing.spawn import ProcessException, start_processes

from services.trainer.data import Sample
from services.trainer.devices import make_fabric
from services.trainer.history import Epoch
from services.trainer.networks import build_network
from services.trainer.reports.panels import PanelRow
from services.trainer.snapshot import Snapshot
from services.trainer.train import Listener, Start, Trained, train
from shared.errors import Rejected
from shared.schemas.training import TrainIn

POLL_SECONDS = 0.1
_ANSWER_SECONDS = 600.0  # the parent stores a snapshot before it answers


def train_on_devices(
    order: TrainIn, samples: Sequence[Sample], *, listener: Listener, start: Start | None = None
) -> Trained:
    """As `train`, on `order.devices` devices: here if it is one, else in a process each (distributed data parallel).

    Every device learns from its part of each batch and validates its part of the images; the gradients are averaged
    (Li et al. 2020). When `listener` raises, when this process dies, or when one of the others does, all of them end.
    """
    start = start or Start()
    if order.devices == 1:
        return train(order, samples, listener=listener, start=start)
    present = torch.cuda.device_count() or len(os.sched_getaffinity(0))
    if order.devices > present:
        raise Rejected(f"devices = {order.devices}, but this trainer has {present}: lower devices")
    with tempfile.TemporaryDirectory() as folder:
        return _Ranks(order, samples, listener=listener, start=start, folder=Path(folder)).run()


@dataclass(frozen=True)
class _Assignment:
    """What each process is given."""

    order: TrainIn
    samples: Sequence[Sample]
    start: bytes | None  # the snapshot
    weights: dict[str, Any] | None
    unlabelled: Sequence[Any]
    port: int
    result: Path


class _Ranks:
    """The processes, and the conversation with the first of them."""

    def __init__(
        self, order: TrainIn, samples: Sequence[Sample], *, listener: Listener, start: Start, folder: Path
    ) -> None:
        self._listener, self._order = listener, order
        context = multiprocessing.get_context("spawn")
        self._asked, self._answers = context.Queue(), context.Queue()
        self._assignment = _Assignment(
            order,
            samples,
            start.snapshot.to_bytes() if start.snapshot else None,
            start.weights,
            start.unlabelled,
            _find_port(),
            folder / "trained.pt",
        )

    def run(self) -> Trained:
        processes = start_processes(  # type: ignore[no-untyped-call]  # torch leaves it untyped
            _run_rank,
            args=(self._assignment, self._asked, self._answers),
            nprocs=self._order.devices,
            join=False,
            start_method="spawn",
        )
        try:
            while not self._join(processes):
                self._listener.check()
                self._answer_all()
            self._answer_all()
        finally:
            for process in processes.processes:
                process.kill()
                process.join()
        return self._read_result()

    def _join(self, processes: Any) -> bool:
        """Whether all have ended. What one of them was refused for counts more than that the others missed it."""
        try:
            return bool(processes.join(timeout=POLL_SECONDS))
        except ProcessException:
            self._answer_all()
            raise

    def _answer_all(self) -> None:
        """Do what the first process asks for; what the listener raises ends the training."""
        while True:
            try:
                name, arguments = self._asked.get_nowait()
            except queue.Empty:
                return
            if name == "rejected":
                raise Rejected(*arguments)
            if name == "save":
                arguments = [Snapshot.from_bytes(arguments[0])]
            answer = getattr(self._listener, name)(*arguments)
            if name != "step":
                self._answers.put(answer)

    def _read_result(self) -> Trained:
        plain = torch.load(self._assignment.result, weights_only=True, map_location="cpu")
        network = build_network(self._order.network)
        network.load_state_dict(plain["weights"])
        held = {sample.name: sample for sample in self._assignment.samples}
        return Trained(
            network=network.eval(),
            history=[Epoch(**epoch) for epoch in plain["history"]],
            best=Epoch(**plain["best"]),
            held=[held[name] for name in plain["held"]],
            panels={epoch: bytes(png.numpy()) for epoch, png in plain["panels"].items()},
            seconds=plain["seconds"],
        )


class _Messenger:
    """The listener inside the first process: passes everything on to the one that waits outside."""

    def __init__(self, asked: Any, answers: Any) -> None:
        self._asked, self._answers = asked, answers

    def check(self) -> None:
        """The parent checks, and ends this process when it must."""

    def step(self, epoch: int, step: int, steps: int) -> None:
        self._asked.put(("step", (epoch, step, steps)))

    def epoch(self, epoch: Epoch, best: Epoch, panel: Sequence[PanelRow]) -> bytes | None:
        picture: bytes | None = self._ask("epoch", epoch, best, list(panel))
        return picture

    def wants_snapshot(self) -> bool:
        return bool(self._ask("wants_snapshot"))

    def save(self, snapshot: Snapshot) -> None:
        self._ask("save", snapshot.to_bytes())

    def _ask(self, name: str, *arguments: Any) -> Any:
        self._asked.put((name, arguments))
        return self._answers.get(timeout=_ANSWER_SECONDS)


class _Silent:
    """The listener inside the other processes."""

    def check(self) -> None:
        """Nothing to check."""

    def step(self, epoch: int, step: int, steps: int) -> None:
        """Nobody is told."""

    def epoch(self, epoch: Epoch, best: Epoch, panel: Sequence[PanelRow]) -> bytes | None:  # noqa: ARG002  # the port's
        return None

    def wants_snapshot(self) -> bool:
        return False

    def save(self, snapshot: Snapshot) -> None:
        """The first process saves."""


def _run_rank(rank: int, assignment: _Assignment, asked: Any, answers: Any) -> None:
    """What each process does; the first one writes the result."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(assignment.port), NODE_RANK="0", LOCAL_RANK=str(rank))
    order = assignment.order
    torch.set_num_threads(max(torch.get_num_threads() // order.devices, 1))
    fabric = make_fabric(order.precision, devices=order.devices)
    fabric.launch()
    snapshot = Snapshot.from_bytes(assignment.start) if assignment.start else None
    listener: Listener = _Messenger(asked, answers) if rank == 0 else _Silent()
    start = Start(assignment.weights, assignment.unlabelled, snapshot)
    try:
        trained = train(order, assignment.samples, listener=listener, start=start, fabric=fabric)
    except Rejected as error:
        asked.put(("rejected", (str(error),)))
        return
    if rank == 0:
        torch.save(_as_plain(trained), assignment.result)
    fabric.barrier()  # the first process keeps the place where they meet: it goes when all others are done with it
    torch.distributed.destroy_process_group()


def _as_plain(trained: Trained) -> dict[str, Any]:
    return {
        "weights": trained.network.state_dict(),
        "history": [asdict(epoch) for epoch in trained.history],
        "best": asdict(trained.best),
        "held": [sample.name for sample in trained.held],
        "panels": {epoch: torch.frombuffer(bytearray(png), dtype=torch.uint8) for epoch, png in trained.panels.items()},
        "seconds": trained.seconds,
    }


def _find_port() -> int:
    """A port of the loopback that nobody listens on; the processes meet there."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
