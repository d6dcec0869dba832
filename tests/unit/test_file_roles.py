"""What files are for, by their names alone."""

import pytest

from shared.domain import file_roles


@pytest.mark.parametrize(
    ("names", "roles", "images"),
    [
        (["a.png"], ["image"], 1),
        (["images/a.png", "masks/a.png"], ["image", "mask"], 1),
        (["a/masks/b/c.png"], ["mask"], 0),
        (["a.png", "a_mask.png"], ["image", "mask"], 1),
        (["a_mask.png"], ["image"], 1),
        (["01/t000.tif", "01_GT/SEG/man_seg000.tif"], ["image", "mask"], 1),
        (["a.png", "a.geojson", "notes.txt", ".DS_Store"], ["image", "other", "other", "other"], 1),
        (["slide.mrxs", "slide/Data0000.dat"], ["image", "part"], 1),
        (["a.zarr/.zattrs", "a.zarr/0/0"], ["part", "part"], 1),
        (["no-suffix", "odd.xyz"], ["image", "image"], 2),
    ],
)
def test_names_tell_what_files_are_for(names: list[str], roles: list[str], images: int) -> None:
    found, count = file_roles.tell(names)
    assert [found[name].value for name in names] == roles
    assert count == images
