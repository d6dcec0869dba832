"""A job's manifest as an RO-Crate, read by the package that others read them with."""

import copy
import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from rocrate.rocrate import ROCrate

from services.worker.writers.ro_crate import NAME, PROFILE, SPECIFICATION, describe_crate

IMAGE, OTHER, MODEL = "a" * 64, "b" * 64, "c" * 64


def image(name: str, sha256: str = IMAGE, *, error: str | None = None) -> dict[str, Any]:
    state = "done" if error is None else "failed"
    cause = None if error is None else {"type": "input", "detail": error}
    return {"name": name, "sha256": sha256, "bytes": 1234, "state": state, "facts": {}, "result": {}, "error": cause}


def artifact(name: str, kind: str = "mask", media_type: str = "image/tiff") -> dict[str, Any]:
    return {"name": name, "kind": kind, "media_type": media_type, "sha256": "d" * 64, "bytes": 10}


def manifest(*artifacts: dict[str, Any], images: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {
        "manifest_version": 1,
        "job": {
            "id": "5f0f2e9c-6c1f-4b5e-9a8e-0d8f6a4b1c2d",
            "kind": "segment",
            "created_at": "2026-01-01T10:00:00+00:00",
            "started_at": "2026-01-01T10:00:05+00:00",
            "finished_at": "2026-01-01T10:01:00+00:00",
        },
        "spec": {
            "dataset_version": {"id": "0d8f6a4b-6c1f-4b5e-9a8e-5f0f2e9c1c2d", "number": 3, "digest": "e" * 64},
            "parameters": {"threshold": 0.5, "outputs": ["mask", "table"], "objects": {"depth": 1.0, "max_area": None}},
            "model": {"name": "nuclei", "version": 7, "version_id": "9a8e6a4b-6c1f-4b5e-9a8e-5f0f2e9c1c2d"}
            | {"digest": MODEL},
        },
        "software": {"python": "3.11.9", "numpy": "2.4.6", "overtile-platform": "0.1.0"},
        "images": [image("a.png")] if images is None else images,
        "artifacts": list(artifacts),
    }


def by_id(crate: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = {entity["@id"]: entity for entity in crate["@graph"]}
    assert len(found) == len(crate["@graph"])
    return found


def find_run(crate: dict[str, Any]) -> dict[str, Any]:
    return next(entity for entity in crate["@graph"] if entity["@type"] == "CreateAction")


def references(value: Any) -> list[str]:
    """The ids of what a value of an entity refers to."""
    entries = value if isinstance(value, list) else [value]
    return [entry["@id"] for entry in entries if isinstance(entry, dict)]


def test_the_package_for_crates_reads_what_was_made_from_what_with_what(tmp_path: Path) -> None:
    made = [artifact("a.png.mask.tif"), artifact("summary.csv", "summary", "text/csv")]
    (tmp_path / NAME).write_text(json.dumps(describe_crate(manifest(*made))))
    crate = ROCrate(tmp_path)
    run = next(entity for entity in crate.get_entities() if entity.type == "CreateAction")
    assert {part.id for part in run["result"]} == {"a.png.mask.tif", "summary.csv"}
    assert {tool["softwareVersion"] for tool in run["instrument"]} == {"0.1.0", "7"}
    assert {thing.type for thing in run["object"]} == {"Dataset", "MediaObject", "PropertyValue"}
    assert crate.root_dataset["conformsTo"].id == PROFILE


def test_the_file_about_the_crate_names_the_specification_and_the_root() -> None:
    file = by_id(describe_crate(manifest()))[NAME]
    assert file["conformsTo"] == {"@id": SPECIFICATION}
    assert file["about"] == {"@id": "./"}


def test_whatever_is_referred_to_is_described() -> None:
    made = [artifact("a.mask.tif"), artifact("a.ome.zarr/zarr.json"), artifact("b c#?.png")]
    crate = describe_crate(manifest(*made, images=[image("a"), image("b", OTHER)]))
    known = set(by_id(crate)) | {SPECIFICATION}
    statuses = ("http://schema.org/CompletedActionStatus",)
    referred = {each for entity in crate["@graph"] for value in entity.values() for each in references(value)}
    assert referred <= known | set(statuses)


@pytest.mark.parametrize("name", ["a b.png.mask.tif", "ä/ö #1?.tif", "50%25.tif", "c:d.tif", "http://x/y.tif"])
def test_a_files_id_is_its_path_however_it_is_called(name: str) -> None:
    file = next(entity for entity in describe_crate(manifest(artifact(name)))["@graph"] if entity["@type"] == "File")
    assert unquote(file["@id"]) == name
    assert not set(" #?:") & set(file["@id"])


def test_a_file_has_its_size_its_kind_and_its_hash() -> None:
    file = by_id(describe_crate(manifest(artifact("a.mask.tif"))))["a.mask.tif"]
    assert (file["contentSize"], file["encodingFormat"], file["sha256"]) == ("10", "image/tiff", "d" * 64)


def test_a_folder_of_ome_zarr_is_one_dataset_however_many_shards_it_has() -> None:
    tree = ["zarr.json", "0/zarr.json", "labels/zarr.json", "labels/objects/0/zarr.json"]
    shards = [artifact(f"a.png.ome.zarr/{key}") for key in [*tree, *(f"0/c/0/0/{number}" for number in range(1000))]]
    root = by_id(describe_crate(manifest(*shards)))["./"]
    assert references(root["hasPart"]) == ["a.png.ome.zarr/"]


def test_files_beside_an_image_that_was_a_zarr_itself_are_files() -> None:
    """The folder of such an image has the name of a Zarr, but no Zarr in it."""
    root = by_id(describe_crate(manifest(artifact("plate.zarr/A/1/0.mask.tif"))))["./"]
    assert references(root["hasPart"]) == ["plate.zarr/A/1/0.mask.tif"]


def test_an_image_that_is_there_twice_is_one_entity_with_two_names() -> None:
    crate = describe_crate(manifest(images=[image("a"), image("b"), image("c", OTHER)]))
    images = [entity for entity in crate["@graph"] if entity["@type"] == "MediaObject"]
    assert [(entity["name"], entity.get("alternateName")) for entity in images] == [("a", ["b"]), ("c", None)]


def test_images_are_known_by_the_hash_of_their_bytes() -> None:
    entity = next(each for each in describe_crate(manifest())["@graph"] if each["@type"] == "MediaObject")
    assert entity["@id"] == "ni:///sha-256;qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqo"


def test_parameters_of_groups_carry_the_groups_name_and_nothing_is_said_of_those_without_a_value() -> None:
    crate = describe_crate(manifest())
    values = {each["name"]: each["value"] for each in crate["@graph"] if each["@type"] == "PropertyValue"}
    assert values == {"threshold": 0.5, "outputs": '["mask", "table"]', "objects.depth": 1.0}


def test_a_run_some_of_whose_images_failed_was_completed_and_says_which() -> None:
    run = find_run(describe_crate(manifest(images=[image("a"), image("b", OTHER, error="b: it is empty")])))
    assert run["actionStatus"] == {"@id": "http://schema.org/CompletedActionStatus"}
    assert run["error"] == ["b: it is empty"]


def test_a_run_all_of_whose_images_failed_has_failed() -> None:
    run = find_run(describe_crate(manifest(images=[image("a", error="it is empty")])))
    assert run["actionStatus"] == {"@id": "http://schema.org/FailedActionStatus"}


def test_a_run_begins_when_its_first_block_was_claimed() -> None:
    run = find_run(describe_crate(manifest()))
    assert (run["startTime"], run["endTime"]) == ("2026-01-01T10:00:05+00:00", "2026-01-01T10:01:00+00:00")


def test_two_models_that_are_compared_are_both_instruments() -> None:
    order = manifest()
    order["spec"]["compared"] = copy.deepcopy({"model": {**order["spec"]["model"], "version": 8, "digest": "f" * 64}})
    versions = [
        by_id(describe_crate(order))[each] for each in references(find_run(describe_crate(order))["instrument"])
    ]
    assert [each["softwareVersion"] for each in versions] == ["0.1.0", "7", "8"]


def compared() -> dict[str, Any]:
    """Two models on one image, which has a mask."""
    mask = {"name": "masks/a.png", "sha256": OTHER, "bytes": 10}
    twice = [{**image(f"{folder}/a.png"), "image": "a.png", "masks": [mask]} for folder in ("1-nuclei-7", "2-other-1")]
    made = manifest(images=twice)
    other = {"name": "other", "version": 1, "version_id": "1c2d6a4b-6c1f-4b5e-9a8e-5f0f2e9c1c2d", "digest": "f" * 64}
    made["spec"]["compared"] = {"model": other, "parameters": {"threshold": 0.7}}
    return made


def test_an_image_that_two_models_worked_on_is_one() -> None:
    run = find_run(describe_crate(compared()))
    assert "of 1 image" in run["name"]


def test_masks_and_what_the_second_model_was_told_are_objects_of_the_run() -> None:
    crate = describe_crate(compared())
    known, objects = by_id(crate), references(find_run(crate)["object"])
    assert "masks/a.png" in [known[each]["name"] for each in objects]
    assert known["#compared.threshold"]["value"] == 0.7
