"""The event file, read back without the library that wrote it: TFRecord frames around protocol buffers."""

import struct
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import google_crc32c
import pytest
from PIL import Image

from services.trainer.reports.tensorboard import TensorboardLog
from tests.unit.reports.histories import make_epoch, make_history

# Fields as numbered in TensorFlow's event.proto and summary.proto.
STEP, SUMMARY, VALUE, TAG, SIMPLE_VALUE, IMAGE = 2, 5, 1, 1, 2, 4
HEIGHT, WIDTH, ENCODED = 1, 2, 4

Fields = dict[int, list[Any]]


def read_frames(data: bytes) -> Iterator[bytes]:
    """Length, its checksum, the record, its checksum."""
    at = 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        record = data[at + 12 : at + 12 + length]
        sums = struct.unpack_from("<I", data, at + 8) + struct.unpack_from("<I", data, at + 12 + length)
        assert sums == (mask(data[at : at + 8]), mask(record))
        yield record
        at += 16 + length


def mask(data: bytes) -> int:
    crc: int = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def parse(message: bytes) -> Fields:
    fields: Fields = {}
    stream = BytesIO(message)
    while stream.tell() < len(message):
        key = read_varint(stream)
        value: Any
        match key & 7:
            case 0:
                value = read_varint(stream)
            case 1:
                (value,) = struct.unpack("<d", stream.read(8))
            case 2:
                value = stream.read(read_varint(stream))
            case 5:
                (value,) = struct.unpack("<f", stream.read(4))
        fields.setdefault(key >> 3, []).append(value)
    return fields


def read_varint(stream: BytesIO) -> int:
    value = shift = 0
    while True:
        (byte,) = stream.read(1)
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value


def read_values(folder: Path) -> list[tuple[int, str, Fields]]:
    """(step, tag, value) of all that was added."""
    (file,) = folder.iterdir()
    assert file.name.startswith("events.out.tfevents.")  # by which TensorBoard finds it
    events = [parse(record) for record in read_frames(file.read_bytes())]
    found = []
    for event in events:
        for summary in event.get(SUMMARY, []):
            values = [parse(value) for value in parse(summary)[VALUE]]
            found += [(event[STEP][0], value[TAG][0].decode(), value) for value in values]
    return found


def test_the_figures_of_each_epoch_are_on_disk_when_add_returns(tmp_path):
    history = make_history(2)
    log = TensorboardLog(tmp_path / "made" / "here")
    for epoch in history:
        log.add(epoch)
    values = {(step, tag): value[SIMPLE_VALUE][0] for step, tag, value in read_values(tmp_path / "made" / "here")}
    log.close()
    for epoch in history:
        assert values[epoch.epoch, "loss/train"] == pytest.approx(epoch.train_loss)
        assert values[epoch.epoch, "loss/validation"] == pytest.approx(epoch.validation_loss)
        assert values[epoch.epoch, "dice/validation"] == pytest.approx(epoch.validation_dice)
        assert values[epoch.epoch, "learning_rate"] == pytest.approx(epoch.learning_rate)
    assert len(values) == 16


def test_a_panel_is_kept_byte_for_byte_with_its_size_and_epoch(tmp_path):
    png = BytesIO()
    Image.new("RGB", (30, 20), "green").save(png, "PNG")
    log = TensorboardLog(tmp_path)
    log.add_panel(png.getvalue(), make_epoch(7))
    log.close()
    ((step, _, value),) = read_values(tmp_path)
    picture = parse(value[IMAGE][0])
    assert step == 7
    assert picture[ENCODED] == [png.getvalue()]
    assert (picture[WIDTH], picture[HEIGHT]) == ([30], [20])
