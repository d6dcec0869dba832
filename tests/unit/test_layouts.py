"""From names of files to images with masks, layout by layout."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from shared.errors import Rejected
from shared.layouts import Arrangement, Entry, Layout, arrange, detect
from shared.layouts.names import is_truth


@dataclass
class Told:
    """Contents as a test says they are."""

    page_counts: Mapping[str, int] = field(default_factory=dict)
    texts: Mapping[str, bytes] = field(default_factory=dict)

    def pages(self, name: str) -> int:
        if name not in self.page_counts:
            raise Rejected(f"{name}: damaged")
        return self.page_counts[name]

    def text(self, name: str) -> bytes:
        return self.texts.get(name, b"{}")


def arranged(names: Sequence[str], contents: Told | None = None, layout: Layout | None = None) -> Arrangement:
    return arrange(layout or detect(names).layout, names, contents or Told())


def masks_of(arrangement: Arrangement) -> dict[str, tuple[str, ...]]:
    return {entry.image: entry.mask_files for entry in arrangement.entries}


def reasons_of(arrangement: Arrangement) -> dict[str, str]:
    return dict(arrangement.ignored)


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


# A folder for each image


def test_the_data_science_bowl_has_a_folder_for_each_image() -> None:
    names = ["st/x/images/x.png", "st/x/masks/1.png", "st/x/masks/2.png", "st/y/images/y.png", "st/y/masks/3.png"]
    assert detect(names).layout is Layout.DSB2018
    found = arranged(names)
    assert masks_of(found) == {
        "st/x/images/x.png": ("st/x/masks/1.png", "st/x/masks/2.png"),
        "st/y/images/y.png": ("st/y/masks/3.png",),
    }
    assert {entry.mask_kind for entry in found.entries} == {"merge"}


def test_masks_beside_several_images_belong_to_none_of_them() -> None:
    names = ["x/images/x.png", "x/images/y.png", "x/masks/1.png"]
    found = arranged(names, layout=Layout.DSB2018)
    assert masks_of(found) == {"x/images/x.png": (), "x/images/y.png": ()}
    assert "x has 2 images" in reasons_of(found)["x/masks/1.png"]


def test_the_cell_tracking_challenge_numbers_its_frames() -> None:
    names = ["01/t000.tif", "01/t001.tif", "01/t002.tif", "02/t000.tif"]
    truth = [
        "01_GT/SEG/man_seg000.tif",
        "01_ST/SEG/man_seg000.tif",
        "01_ST/SEG/man_seg001.tif",
        "02_GT/SEG/man_seg0000.tif",
    ]
    other = [
        "01_GT/TRA/man_track000.tif",
        "01_GT/SEG/man_seg_002_007.tif",
        "01_GT/SEG/man_seg009.tif",
        "01_GT/TRA/t.txt",
    ]
    assert detect([*names, *truth, *other]).layout is Layout.CTC
    found = arranged([*names, *truth, *other])
    assert masks_of(found) == {
        "01/t000.tif": (truth[0],),
        "01/t001.tif": (truth[2],),
        "01/t002.tif": (),
        "02/t000.tif": (truth[3],),
    }
    assert [entry.group for entry in found.entries] == ["01", "01", "01", "02"]
    reasons = reasons_of(found)
    assert reasons[truth[1]] == "a second mask for 01/t000.tif: 01_GT/SEG/man_seg000.tif is taken"
    assert "not their outlines" in reasons[other[0]]
    assert "one slice of a 3-D stack" in reasons[other[1]]
    assert "01 has no frame 009" in reasons[other[2]]


# Many images in a file


def test_the_isbi_challenge_has_a_page_for_each_image() -> None:
    names = ["train-volume.tif", "train-labels.tif", "test-volume.tif"]
    found = detect(names)
    assert (found.layout, found.images, found.masked) == (Layout.ISBI, 2, 1)
    pages = Told({"train-volume.tif": 2, "train-labels.tif": 2, "test-volume.tif": 1})
    entries = arranged(names, pages).entries
    assert [(e.name, e.page, e.masks, e.mask_page, e.split, e.group) for e in entries] == [
        ("test-volume.tif/0000", 0, (), None, "test", "test-volume.tif"),
        ("train-volume.tif/0000", 0, ("train-labels.tif",), 0, "train", "train-volume.tif"),
        ("train-volume.tif/0001", 1, ("train-labels.tif",), 1, "train", "train-volume.tif"),
    ]


def test_labels_of_another_length_are_not_those_of_the_volume() -> None:
    found = arranged(["volume.tif", "labels.tif"], Told({"volume.tif": 3, "labels.tif": 2}))
    assert [entry.masks for entry in found.entries] == [(), (), ()]
    assert "2 masks, but 3 images in volume.tif" in reasons_of(found)["labels.tif"]


def test_a_damaged_stack_is_ignored_with_its_reason() -> None:
    found = arranged(["volume.tif", "labels.tif"], Told())
    assert reasons_of(found) == dict.fromkeys(["volume.tif", "labels.tif"], "volume.tif: damaged")


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("Fold {}/images/fold{}/images.npy", "Fold {}/masks/fold{}/masks.npy"),
        ("fold{}/images.npy", "fold{}/masks.npy"),
        ("images/fold{}/images.npy", "masks/fold{}/masks.npy"),
    ],
)
def test_folds_of_pannuke_are_groups_and_all_three_the_published_split(images: str, masks: str) -> None:
    names = [path.format(fold, fold) for fold in (1, 2, 3) for path in (images, masks)]
    assert detect(names).layout is Layout.PANNUKE
    found = arranged(names, Told(dict.fromkeys(names, 2)))
    assert [entry.split for entry in found.entries] == ["train"] * 2 + ["validation"] * 2 + ["test"] * 2
    assert len({entry.group for entry in found.entries}) == 3
    assert all(entry.mask_page == entry.page and entry.mask_kind == "pannuke" for entry in found.entries)
    two = arranged(names[:4], Told(dict.fromkeys(names, 2)))
    assert {entry.split for entry in two.entries} == {None}


# Polygons


def coco(*files: str, categories: Sequence[str] = ("nucleus",)) -> bytes:
    images = [{"id": number, "file_name": file} for number, file in enumerate(files)]
    named = [{"id": number, "name": name} for number, name in enumerate(categories)]
    return json.dumps({"images": images, "annotations": [], "categories": named}).encode()


def test_coco_lists_its_images_by_name() -> None:
    names = ["train2017/a.jpg", "train2017/b.jpg", "val2017/a.jpg", "annotations/instances_train2017.json", "x.json"]
    found = detect(names)
    assert (found.layout, found.images, found.masked) == (Layout.COCO, 3, None)
    texts = {names[3]: coco("a.jpg", "gone.jpg", categories=["b", "a"])}
    arrangement = arranged(names, Told(texts=texts))
    assert masks_of(arrangement) == {names[0]: (names[3],), names[1]: (), names[2]: ()}
    entry = arrangement.entries[0]
    assert (entry.reference, entry.split, entry.mask_kind) == ("0", "train", "coco")
    assert arrangement.classes == ("a", "b")
    assert reasons_of(arrangement) == {"x.json": "JSON, but not COCO's"}
    assert arrangement.notes == [f"{names[3]}: of the 2 images that it lists, 1 are not among the files"]


def test_a_json_beside_masks_does_not_make_them_coco() -> None:
    found = detect(["images/a.png", "masks/a.png", "dataset.json"])
    assert (found.layout, found.alternatives) == (Layout.IMAGES_MASKS, (Layout.COCO, Layout.PLAIN))


@pytest.mark.parametrize("annotations", ["x.geojson", "x.svs.geojson", "annotations/x.geojson"])
def test_geojson_stands_beside_its_slide(annotations: str) -> None:
    assert detect(["x.svs", annotations]).layout is Layout.GEOJSON
    text = json.dumps({"properties": {"classification": {"name": "Tumör", "color": [1, 2, 3]}}}).encode()
    found = arranged(["x.svs", annotations], Told(texts={annotations: text}))
    assert masks_of(found) == {"x.svs": (annotations,)}
    assert found.classes == ("Tumör",)


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


# Many names, and names that no database keeps


def test_ten_thousand_images_of_one_name_are_found_by_their_folders() -> None:
    names = [f"data/{number}/image.png" for number in range(10_000)]
    images = [{"id": number, "file_name": f"{number}/image.png"} for number in range(10_000)]
    told = Told(texts={"a.json": json.dumps({"images": images}).encode()})
    begun = time.process_time()
    found = arrange(Layout.COCO, [*names, "a.json"], told)
    assert time.process_time() - begun < 8  # seconds; each name compared with each takes a minute
    assert {entry.image: entry.reference for entry in found.entries} == {
        name: str(number) for number, name in enumerate(names)
    }


def test_of_many_images_of_one_name_the_split_of_the_file_tells_which() -> None:
    names = ["train/a.png", "val/a.png", "test/a.png"]
    told = Told(texts={"instances_val.json": b'{"images": [{"id": 1, "file_name": "a.png"}]}'})
    found = arrange(Layout.COCO, [*names, "instances_val.json"], told)
    assert [entry.image for entry in found.entries if entry.masks] == ["val/a.png"]


def test_five_thousand_slides_of_several_files_find_their_companions() -> None:
    slides = [f"a/s{number}x.vms" for number in range(5000)]
    maps = [f"a/s{number}x_map2.jpg" for number in range(5000)]
    begun = time.process_time()
    found = arrange(Layout.PLAIN, [*slides, *maps], Told())
    assert time.process_time() - begun < 8  # seconds
    assert {entry.image: entry.parts for entry in found.entries} == {
        slide: (companion,) for slide, companion in zip(slides, maps, strict=True)
    }


def test_names_of_categories_are_what_a_database_keeps() -> None:
    categories = [{"id": 1, "name": "a\x00b\ud800"}, {"id": 2, "name": "😀"}, {"id": 3, "name": "x" * 1000}]
    document = {"images": [{"id": 1, "file_name": "a.png"}], "categories": categories}
    told = Told(texts={"a.json": json.dumps(document).encode()})
    found = arrange(Layout.COCO, ["a.png", "a.json"], told)
    assert found.classes == ("a\ufffdb\ufffd", "x" * 199 + "…", "😀")


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
