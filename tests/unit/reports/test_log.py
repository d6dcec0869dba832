"""The history as a table."""

import csv
from dataclasses import asdict, fields

from services.trainer.history import Epoch
from services.trainer.reports.log import write_log
from tests.unit.reports.histories import make_history


def read(log: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(log.decode().splitlines()))


def test_the_log_has_a_row_for_each_epoch_and_loses_no_digit():
    history = make_history(3)
    rows = [{name: float(text) for name, text in row.items()} for row in read(write_log(history))]
    assert rows == [asdict(epoch) for epoch in history]


def test_the_columns_of_an_empty_log_are_named_all_the_same():
    assert write_log([]).decode() == ",".join(field.name for field in fields(Epoch)) + "\n"
