"""Objects as GeoJSON, in the dialect that QuPath opens: detections with a class, its colour, and measurements.

Coordinates are pixels of the image, x to the right and y downwards. QuPath writes measurements as an object since 0.4;
0.3 opens the same file without them, and knows the type and the colour by the names they had then.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import BinaryIO, Self

import pyarrow as pa
import pyarrow.compute as pc

from services.worker.writers.columns import Column, columns_batch, columns_schema
from services.worker.writers.number_text import spell_numbers
from services.worker.writers.outline_text import join_texts, spell_polygons, split_table
from shared.imaging.objects.table import ObjectTable

Colour = tuple[int, int, int]  # red, green, blue, 0 … 255


class GeoJsonWriter:
    """Writes objects as a FeatureCollection to `target`, a feature a line.

    `image` is its name, `mpp` its µm per pixel if known, `colours` those of the classes by name. Only a `with` that
    ends without an exception closes the collection; until then the file is not JSON.
    """

    def __init__(
        self,
        target: BinaryIO,
        *,
        columns: Sequence[Column],
        image: str,
        mpp: float | None,
        colours: Mapping[str, Colour],
    ) -> None:
        self._target = target
        self._schema = columns_schema(columns)
        self._titles = {c.name: f",{json.dumps(c.title, ensure_ascii=False)}:" for c in columns if c.kind != "string"}
        del self._titles["label"]  # every object has one: it comes first, without a comma
        self._colours = colours
        self._has_features = False
        about = {"type": "FeatureCollection", "name": image, "mpp": mpp}
        head = json.dumps(about, ensure_ascii=False).removesuffix("}")
        self._target.write(f'{head}, "features": ['.encode())

    def __enter__(self) -> Self:
        return self

    def add(self, table: ObjectTable) -> None:
        """Write the objects of a block."""
        for piece in split_table(table):
            text = join_texts(self._spell_features(piece))
            self._target.write(text if self._has_features else text[1:])  # a comma stands before each but the first
            self._has_features = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._target.write(b"\n]}\n")

    def _spell_features(self, table: ObjectTable) -> pa.StringArray:
        batch = columns_batch(table, self._schema)
        labels = batch["label"].cast(pa.string())
        return pc.binary_join_element_wise(
            *(',\n{"type":"Feature","id":', labels, ',"geometry":{"type":"Polygon","coordinates":'),
            *(spell_polygons(table.outlines), '},"properties":{"objectType":"detection","object_type":"detection",'),
            *('"classification":', self._spell_classes(batch["class"]), ',"measurements":{"Label":', labels),
            *self._spell_measurements(batch),
            *("}}}", ""),
            null_handling="replace",
            null_replacement="",
        )

    def _spell_measurements(self, batch: pa.RecordBatch) -> Iterator[str | pa.StringArray]:
        """Title and value of every number, by turns; what is null is left out, for JSON has no word for it."""
        for name, title in self._titles.items():
            numbers = spell_numbers(batch[name])
            if numbers.null_count:
                yield pc.binary_join_element_wise(title, numbers, "")  # null where the number is
            else:
                yield from (title, numbers)

    def _spell_classes(self, classes: pa.StringArray) -> pa.StringArray:
        texts = classes.dictionary_encode()  # a few classes name a million objects
        spelled = [json.dumps(self._describe(name), ensure_ascii=False) for name in texts.dictionary.to_pylist()]
        return pa.array(spelled, pa.string()).take(texts.indices)

    def _describe(self, name: str) -> dict[str, object]:
        colour = self._colours.get(name)
        if colour is None:
            return {"name": name}
        packed = int.from_bytes(bytes([255, *colour]), "big", signed=True)  # Java's: opaque, red, green, blue
        return {"name": name, "color": list(colour), "colorRGB": packed}
