"""Files of polygons, COCO and GeoJSON, and the images that they belong to."""

import json
import time
from collections.abc import Sequence

import pytest

from shared.layouts import Layout, arrange, detect
from tests.arrangements import Told, arranged, masks_of, reasons_of


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


def test_names_of_categories_are_what_a_database_keeps() -> None:
    categories = [{"id": 1, "name": "a\x00b\ud800"}, {"id": 2, "name": "😀"}, {"id": 3, "name": "x" * 1000}]
    document = {"images": [{"id": 1, "file_name": "a.png"}], "categories": categories}
    told = Told(texts={"a.json": json.dumps(document).encode()})
    found = arrange(Layout.COCO, ["a.png", "a.json"], told)
    assert found.classes == ("a\ufffdb\ufffd", "x" * 199 + "…", "😀")
