"""Masks and annotation files of every kind, as label arrays."""

from shared.annotations.annotation import Annotation, FoundKind
from shared.annotations.checking import check_annotation, check_shapes
from shared.annotations.kinds import agree, find_background, find_kind
from shared.annotations.planes import count_pages, read_plane
from shared.annotations.polygons import read_text
from shared.annotations.reading import LARGEST, AnnotationReader, read_annotation, read_shapes
from shared.annotations.shapes import Shapes
from shared.annotations.values import distinct, number_objects, read_values
from shared.annotations.writing import suffix_of, write_classes, write_image, write_labels

__all__ = [
    "LARGEST",
    "Annotation",
    "AnnotationReader",
    "FoundKind",
    "Shapes",
    "agree",
    "check_annotation",
    "check_shapes",
    "count_pages",
    "distinct",
    "find_background",
    "find_kind",
    "number_objects",
    "read_annotation",
    "read_plane",
    "read_shapes",
    "read_text",
    "read_values",
    "suffix_of",
    "write_classes",
    "write_image",
    "write_labels",
]
