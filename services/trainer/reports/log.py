"""The history as a table."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, fields
from io import StringIO

from services.trainer.history import Epoch


def write_log(history: Sequence[Epoch]) -> bytes:
    """CSV in UTF-8: a header with the names of `Epoch`'s fields, then one row an epoch; numbers lose no digit."""
    text = StringIO()
    table = csv.DictWriter(text, [field.name for field in fields(Epoch)], lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(epoch) for epoch in history)
    return text.getvalue().encode()
