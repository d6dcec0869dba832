"""Objects as COCO instances: a part for each image when it is done, strung together when the job is.

A COCO polygon knows no holes, so objects that have some are told by run lengths.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.worker.writers.number_text import spell_numbers
from services.worker.writers.outline_text import join_texts, spell_flat, split_table
from services.worker.writers.run_lengths import spell_runs
from shared.imaging.objects.table import ObjectTable, Outlines


@dataclass(frozen=True)
class CocoImage:
    """An image of a job, with what a `CocoPart` wrote of it, in chunks of any size."""

    name: str
    height: int  # px
    width: int  # px
    part: Iterable[bytes]


class CocoPart:
    """Writes the annotations of one image of (height, width) px to `target`, one a line, as yet without ids.

    `categories` are the numbers of the classes by name, the same for all images of a job.
    """

    def __init__(self, target: BinaryIO, *, height: int, width: int, categories: Mapping[str, int]) -> None:
        self._target = target
        self._height = height
        self._width = width
        self._categories = categories

    def __enter__(self) -> Self:
        return self

    def add(self, table: ObjectTable) -> None:
        """Write the objects of a block. Raises KeyError if a class has no number."""
        for piece in split_table(table):
            self._target.write(join_texts(self._spell_annotations(piece)))

    def __exit__(self, *_: object) -> None:
        """Every line is whole, and there is nothing to close."""

    def _spell_annotations(self, table: ObjectTable) -> pa.StringArray:
        figures = {name: spell_numbers(pa.array(table.columns[name], from_pandas=True)) for name in _FIGURES}
        width = pa.array(table.columns["right_px"] - table.columns["left_px"]).cast(pa.string())
        height = pa.array(table.columns["bottom_px"] - table.columns["top_px"]).cast(pa.string())
        numbers = pa.array([str(self._categories[name]) for name in table.columns["class"].tolist()])
        return pc.binary_join_element_wise(
            *('{"label":', figures["label"], ',"category_id":', numbers, ',"iscrowd":0,"area":', figures["area_px2"]),
            *(',"bbox":[', figures["left_px"], ",", figures["top_px"], ",", width, ",", height, "]"),
            *(',"score":', figures["probability"], ',"segmentation":', self._spell_shapes(table.outlines), "}\n"),
            "",
            null_handling="replace",
            null_replacement="null",
        )

    def _spell_shapes(self, outlines: Outlines) -> pa.StringArray:
        plain = np.diff(outlines.objects) == 1
        holed = np.flatnonzero(~plain)
        polygons = spell_flat(outlines.take(np.flatnonzero(plain)))
        if holed.size == 0:
            return polygons
        runs = spell_runs(outlines.take(holed), height=self._height, width=self._width)
        head = f'{{"size":[{self._height},{self._width}],"counts":"'
        told = pc.binary_join_element_wise(head, pc.replace_substring(runs, "\\", "\\\\"), '"}', "")
        places = np.where(plain, np.cumsum(plain) - 1, len(polygons) + np.cumsum(~plain) - 1)
        return pa.concat_arrays([polygons, told]).take(pa.array(places))


_FIGURES = ("label", "area_px2", "left_px", "top_px", "probability")


def string_coco(target: BinaryIO, images: Iterable[CocoImage], *, categories: Mapping[str, int]) -> None:
    """Write the COCO file of a job: number images and annotations from 1 on, in the order they come."""
    names = [{"id": number, "name": name} for name, number in categories.items()]
    target.write(f'{{"categories": {json.dumps(names, ensure_ascii=False)},\n"annotations": ['.encode())
    listed: list[dict[str, object]] = []
    annotation, separator = 0, b"\n"
    for number, image in enumerate(images, start=1):
        listed.append({"id": number, "file_name": image.name, "height": image.height, "width": image.width})
        for line in _split_lines(image.part):
            annotation += 1
            target.write(b'%b{"id":%d,"image_id":%d,%b' % (separator, annotation, number, line[1:]))
            separator = b",\n"
    target.write(f'],\n"images": {json.dumps(listed, ensure_ascii=False)}}}\n'.encode())


def _split_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    if rest:
        raise ValueError("a part of a COCO file ends within a line: it was cut off")
