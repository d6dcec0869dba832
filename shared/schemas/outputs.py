"""What a segment job may make of each image."""

from typing import Literal

Output = Literal["mask", "overlay", "ome_zarr", "label_image", "ome_tiff", "table", "geojson", "coco", "contact_sheet"]
DEFAULT_OUTPUTS: tuple[Output, ...] = ("mask", "overlay", "ome_zarr", "table")
