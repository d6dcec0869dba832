"""The history and the panels as a TensorBoard event file."""

import time
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

from services.trainer.history import Epoch

# Named so that TensorBoard puts what belongs together into one group.
_TAGS = {
    "loss/train": "train_loss",
    "loss/validation": "validation_loss",
    "dice/train": "train_dice",
    "dice/validation": "validation_dice",
    "iou/train": "train_iou",
    "iou/validation": "validation_iou",
    "learning_rate": "learning_rate",
    "seconds": "seconds",
}
_RGB = 3  # as summary.proto numbers them


def write_events(history: Sequence[Epoch], panels: Mapping[int, bytes]) -> bytes:
    """The event file of a whole training: every epoch, and the pictures of those that have one."""
    with TemporaryDirectory() as folder:
        log = TensorboardLog(Path(folder))
        for epoch in history:
            log.add(epoch)
            if epoch.epoch in panels:
                log.add_panel(panels[epoch.epoch], epoch)
        log.close()
        (file,) = Path(folder).iterdir()
        return file.read_bytes()


class TensorboardLog:
    """An event file in `folder`, which is made if need be. What was added is on disk when the call returns.

    tensorboardX's file writer is used bare: its `SummaryWriter` starts a thread and a queue between processes for each
    log and keeps them until the program ends, which a trainer that runs for months does not need.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"))

    def add(self, epoch: Epoch) -> None:
        """The figures of an epoch."""
        self._write([Summary.Value(tag=tag, simple_value=getattr(epoch, field)) for tag, field in _TAGS.items()], epoch)

    def add_panel(self, png: bytes, epoch: Epoch) -> None:
        """A picture of that epoch, as `draw_panel` makes it."""
        with Image.open(BytesIO(png)) as opened:
            width, height = opened.size
        picture = Summary.Image(encoded_image_string=png, width=width, height=height, colorspace=_RGB)
        self._write([Summary.Value(tag="samples", image=picture)], epoch)

    def close(self) -> None:
        """Nothing can be added any more."""
        self._writer.close()

    def _write(self, values: list[Any], epoch: Epoch) -> None:
        self._writer.write_event(Event(wall_time=time.time(), step=epoch.epoch, summary=Summary(value=values)))
        self._writer.flush()
