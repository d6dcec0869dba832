"""Images and masks told by their names alone: which belong together, and which files are neither."""

import json
import time

import pytest

from shared.layouts import Entry, Layout, arrange, detect
from shared.layouts.names import is_truth
from tests.arrangements import Told, arranged, masks_of, reasons_of

# Images and masks that share a name


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/a.png", "masks/a.png"),
        ("images/a.PNG", "Masks/a.TIF"),
        ("images/A.png", "masks/a.png"),
        ("images/a.jpg", "labels/a.tif"),
        ("images/a.ome.tif", "gt/a.png"),
        ("train/images/x/a.png", "train/masks/x/a.png"),
        ("images/train/a.png", "masks/train/a.png"),
        ("train_images/a.png", "train_masks/a.png"),
        ("images/a.png", "masks/a_mask.png"),
        ("images/a.png", "masks/a-labels.tif"),
        ("images/a_img.png", "masks/a_mask.png"),
        ("a.png", "masks/a.png"),
        ("a.png", "a_mask.png"),
        ("a_img.png", "a_cp_masks.png"),
        ("images/a.tif", "masks/a.npy"),
        ("images/x.ome.tiff", "masks/x.ome.tiff"),
    ],
)
def test_masks_are_found_by_the_names_that_labs_use(image: str, mask: str) -> None:
    assert detect([image, mask]).layout is Layout.IMAGES_MASKS
    assert masks_of(arranged([image, mask])) == {image: (mask,)}


def test_images_of_the_same_name_in_different_folders_keep_their_own_masks() -> None:
    names = [f"{folder}/{kind}/a.png" for folder in ("one", "two") for kind in ("images", "masks")]
    assert masks_of(arranged(names)) == {
        f"{folder}/images/a.png": (f"{folder}/masks/a.png",) for folder in ("one", "two")
    }


def test_a_class_mask_beside_instances_tells_their_types() -> None:
    (entry,) = arranged(["images/a.png", "masks/a.png", "classes/a.png"]).entries
    assert (entry.masks, entry.types, entry.mask_kind) == (("masks/a.png",), "classes/a.png", "auto")


def test_a_class_mask_alone_is_the_mask() -> None:
    (entry,) = arranged(["images/a.png", "classes/a.png"]).entries
    assert (entry.masks, entry.types, entry.mask_kind) == (("classes/a.png",), None, "classes")


def test_instances_and_types_beside_the_image_are_told_by_their_endings() -> None:
    (entry,) = arranged(["patch1.png", "patch1_inst.png", "patch1_type.png"]).entries
    assert (entry.masks, entry.types, entry.mask_kind) == (("patch1_inst.png",), "patch1_type.png", "instances")


def test_an_image_that_only_looks_like_a_mask_stays_an_image() -> None:
    assert masks_of(arranged(["cell_mask.png", "other.png"])) == {"cell_mask.png": (), "other.png": ()}


def test_a_mask_without_image_and_a_second_mask_are_ignored_with_the_reason() -> None:
    found = arranged(["images/a.png", "masks/a.png", "masks/a.tif", "masks/b.png"])
    assert masks_of(found) == {"images/a.png": ("masks/a.png",)}
    assert reasons_of(found) == {
        "masks/a.tif": "a second mask for images/a.png: masks/a.png is taken",
        "masks/b.png": "a mask without an image: no image is called b",
    }


def test_an_image_without_a_mask_is_kept_without_one() -> None:
    assert masks_of(arranged(["images/a.png", "images/b.png", "masks/a.png"]))["images/b.png"] == ()


@pytest.mark.parametrize(
    ("folder", "split"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("val", "validation"),
        ("valid", "validation"),
        ("test", "test"),
        ("x", None),
    ],
)
def test_the_split_is_the_folder(folder: str, split: str | None) -> None:
    (entry,) = arranged([f"{folder}/images/a.png", f"{folder}/masks/a.png"]).entries
    assert entry.split == split


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["train_1_000", "train_1_001", "train_2_000", "train_2_001"], ["train_1", "train_1", "train_2", "train_2"]),
        (["s1_r0_c0", "s1_r0_c1", "s2_r0_c0", "s2_r1_c0"], ["s1", "s1", "s2", "s2"]),
        (["s1_x0_y0", "s1_x256_y0", "b_x0_y0", "b_x0_y256"], ["s1", "s1", "b", "b"]),
        (["s1_0_0", "s1_0_1", "s2_0_0", "s2_1_0"], ["s1", "s1", "s2", "s2"]),
        (["image_1", "image_2", "image_3", "image_4"], [None] * 4),
        (["p1_1", "p1_2", "p1_3", "p1_4"], [None] * 4),
        (["t000", "t001"], [None] * 2),
    ],
)
def test_patches_named_after_their_source_are_one_group(names: list[str], groups: list[str | None]) -> None:
    found = arranged([f"images/{name}.png" for name in names])
    assert [entry.group for entry in found.entries] == [group for _, group in sorted(zip(names, groups, strict=True))]


# Images of several files, and what is none


def test_a_folder_may_be_one_image() -> None:
    zarr = ["s/x.ome.zarr/.zattrs", "s/x.ome.zarr/0/.zarray", "s/x.ome.zarr/0/0/0"]
    mirax = ["y.mrxs", "y/Slidedat.ini", "y/Data0000.dat"]
    dicom = ["series/1.dcm", "series/2.dcm"]
    hamamatsu = ["z.vms", "z.opt", "z_map2.jpg", "other.jpg"]
    found = arranged([*zarr, *mirax, *dicom, *hamamatsu])
    assert {entry.image: entry.image_files for entry in found.entries} == {
        "s/x.ome.zarr": tuple(sorted(zarr)),
        "y.mrxs": ("y.mrxs", "y/Data0000.dat", "y/Slidedat.ini"),
        "series": tuple(dicom),
        "z.vms": ("z.vms", "z.opt", "z_map2.jpg"),
        "other.jpg": ("other.jpg",),
    }
    assert found.ignored == []


def test_single_dicom_files_in_a_folder_of_images_are_images() -> None:
    found = arranged(["images/1.dcm", "images/2.dcm", "a.dcm"])
    assert [entry.image for entry in found.entries] == ["a.dcm", "images/1.dcm", "images/2.dcm"]


def test_a_folder_that_is_an_image_has_a_mask_like_any_other() -> None:
    names = ["images/x.ome.zarr/zarr.json", "masks/x.tif"]
    assert masks_of(arranged(names)) == {"images/x.ome.zarr": ("masks/x.tif",)}


def test_litter_and_files_of_other_kinds_are_ignored_with_the_reason() -> None:
    names = ["a.png", "__MACOSX/._a.png", "Thumbs.db", ".DS_Store", "x/.hidden/b.png", "README.txt", "README", "b.npy"]
    found = arranged(names)
    assert [entry.image for entry in found.entries] == ["a.png"]
    reasons = reasons_of(found)
    assert reasons.keys() == set(names[1:])
    assert reasons["Thumbs.db"] == "Windows wrote it for itself"
    assert reasons["README.txt"] == ".txt is no format of images or masks that is read"
    assert reasons["README"].startswith("a file without suffix")


def test_plain_images_are_found_and_folders_of_masks_left_alone() -> None:
    found = arranged(["images/a.png", "masks/a.png"], layout=Layout.PLAIN)
    assert masks_of(found) == {"images/a.png": ()}
    assert "folder of masks" in reasons_of(found)["masks/a.png"]


def test_where_all_images_lie_in_folders_named_after_masks_they_are_images() -> None:
    found = arranged(["segmentation/a.png", "segmentation/b.png"])
    assert masks_of(found) == {"segmentation/a.png": (), "segmentation/b.png": ()}


def test_nothing_is_plain_and_has_no_images() -> None:
    found = detect([])
    assert (found.layout, found.images, found.masked, found.alternatives) == (Layout.PLAIN, 0, 0, ())


def test_why_a_layout_was_found_is_told_in_a_sentence() -> None:
    found = detect(["images/a.png", "images/b.png", "masks/a.png"])
    assert found.why == "masks with the names of their images: 1 of 2 images with masks"
    assert detect(["a.png"]).why == "1 image: images, and nothing that could be their masks"


def test_an_entry_goes_through_json_unchanged() -> None:
    entry = Entry("a", "a.zarr", 3, ("a.zarr/0",), ("m", "n"), 4, "merge", "t", "test", "g", "7")
    assert Entry.of_json(json.loads(json.dumps(entry.as_json()))) == entry
    assert Entry("a", "a").as_json() == {"name": "a", "image": "a", "mask_kind": "auto"}


def test_five_thousand_slides_of_several_files_find_their_companions() -> None:
    slides = [f"a/s{number}x.vms" for number in range(5000)]
    maps = [f"a/s{number}x_map2.jpg" for number in range(5000)]
    begun = time.process_time()
    found = arrange(Layout.PLAIN, [*slides, *maps], Told())
    assert time.process_time() - begun < 8  # seconds
    assert {entry.image: entry.parts for entry in found.entries} == {
        slide: (companion,) for slide, companion in zip(slides, maps, strict=True)
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("masks/a.png", True),
        ("a_mask.png", True),
        ("a.geojson", True),
        ("images/a.png", False),
        ("masks/.DS_Store", False),
        ("readme.txt", False),
    ],
)
def test_names_tell_whether_a_file_that_is_left_out_is_a_mask(name: str, expected: bool) -> None:
    assert is_truth(name) is expected
