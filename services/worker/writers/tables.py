"""Tables of objects: Parquet for programs, CSV for spreadsheets; the same columns and the same rows."""

import re
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import BinaryIO, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from services.worker.writers.columns import Column, columns_batch, columns_schema
from services.worker.writers.number_text import spell_numbers
from shared.imaging.objects.table import ObjectTable
from shared.imaging.spreadsheets import disarm_text

GROUP = 65_536  # rows of a Parquet row group


class ParquetTable:
    """Writes objects as Parquet (zstd) to `target`, which stays open.

    Small blocks share a row group; no more than a group and a block are held. Rows keep the order they come in. If an
    exception leaves the `with`, the file is left without its footer, so that nobody takes it for whole.
    """

    def __init__(self, target: BinaryIO, *, columns: Sequence[Column], metadata: Mapping[str, str]) -> None:
        self._schema = columns_schema(columns).with_metadata(dict(metadata))
        self._sink = _Sink(target)
        self._writer = pq.ParquetWriter(
            pa.PythonFile(self._sink, mode="w"), self._schema, compression="zstd", use_dictionary=["class"]
        )
        self._waiting: list[pa.RecordBatch] = []
        self._rows = 0

    def __enter__(self) -> Self:
        return self

    def add(self, table: ObjectTable) -> None:
        """Write the objects of a block."""
        self._waiting.append(columns_batch(table, self._schema))
        self._rows += len(table)
        if self._rows >= GROUP:
            self._write_group()

    def _write_group(self) -> None:
        self._writer.write_table(pa.Table.from_batches(self._waiting, self._schema), row_group_size=2 * GROUP)
        self._waiting, self._rows = [], 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._sink.shut()
        elif self._rows:
            self._write_group()
        self._writer.close()


class CsvTable:
    """Writes objects as CSV (RFC 4180, UTF-8) to `target`: a header, then a row each; what is unknown is empty.

    Names of channels and classes are no formulas: see `spreadsheets.disarm_text`.
    """

    def __init__(self, target: BinaryIO, *, columns: Sequence[Column]) -> None:
        self._schema = columns_schema(columns)
        self._target = target
        self._target.write((_quote_row(self._schema.names) + "\r\n").encode())

    def __enter__(self) -> Self:
        return self

    def add(self, table: ObjectTable) -> None:
        """Write the objects of a block."""
        batch = columns_batch(table, self._schema)
        cells = [_spell_cells(column) for column in batch.columns]
        rows = pc.binary_join_element_wise(*cells, ",", null_handling="replace", null_replacement="")
        self._target.write("".join(f"{row}\r\n" for row in rows.to_pylist()).encode())

    def __exit__(self, *_: object) -> None:
        """Every row is whole, and there is nothing to close."""


class _Sink:
    """What Arrow writes to. Arrow ends a file whenever it lets go of it, so what failed must be deaf by then."""

    def __init__(self, target: BinaryIO) -> None:
        self._target: BinaryIO | None = target
        self._place = 0
        self.closed = False

    def write(self, content: bytes) -> int:
        if self._target is not None:
            self._target.write(content)
        self._place += len(content)
        return len(content)

    def tell(self) -> int:
        return self._place

    def flush(self) -> None:
        """The target's owner does that."""

    def close(self) -> None:
        self.closed = True

    def shut(self) -> None:
        """Let nothing through any more."""
        self._target = None


def _spell_cells(column: pa.Array) -> pa.StringArray:
    if not pa.types.is_string(column.type):
        return spell_numbers(column)
    texts = column.dictionary_encode()  # a few classes name a million objects
    quoted = pa.array([_quote_row([text]) for text in texts.dictionary.to_pylist()], pa.string())
    return quoted.take(texts.indices)


def _quote_row(cells: Sequence[str]) -> str:
    return ",".join(_quote(disarm_text(cell)) for cell in cells)


def _quote(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if _SPECIAL.search(cell) else cell


_SPECIAL = re.compile(r'[",\r\n]')
