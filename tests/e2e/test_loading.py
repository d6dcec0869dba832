"""What a version must show on the real model server before anybody may use it."""

import json
from pathlib import Path
from typing import Any

import pytest
from overtile import Client, JobFailed

from deploy.local.platform import Platform
from services.trainer.export import Export
from tests.e2e.conftest import import_files
from tests.int8_exports import export_in_int8


def boast(export: Export, **changes: Any) -> dict[str, bytes]:
    """The files of an export whose contract says something else."""
    contract = {**json.loads(export.files["contract.json"]), **changes}
    return {**export.files, "contract.json": json.dumps(contract).encode(), "card.json": b"{}"}


def test_a_version_shows_its_engine_and_what_was_measured(client: Client, model: str) -> None:
    version = client.models.get(model).versions[0]
    serving = version.serving
    assert version.state == "ready"
    assert serving is not None
    assert serving["engine"]["device"] == "CPU"
    assert serving["engine"]["precision"] in ("bf16", "f32")
    assert serving["seam"] <= 1
    assert serving["beyond_halo"] <= 1
    assert serving["mean_difference"] < 1
    assert serving["mean_difference"] <= serving["largest_difference"] <= 8


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"halo": 64, "reach": None}, "a halo of 64 px"),
        ({"exactness": "tolerant", "bound": 1, "grid": 1}, "on a grid of 1 px"),
    ],
)
def test_an_import_that_promises_more_than_its_graph_holds_fails_with_the_mend(
    client: Client, platform: Platform, small_export: Export, changes: dict[str, Any], told: str
) -> None:
    name = f"boastful-{len(told)}"
    job = import_files(platform, name, boast(small_export, **changes))
    with pytest.raises(JobFailed, match=f"{told}.*export the model anew"):
        client.jobs.wait(job, progress=False, timeout=120)
    (version,) = client.models.get(name).versions
    assert (version.state, version.serving) == ("failed", None)


@pytest.fixture(scope="module")
def in_int8() -> Export:
    return export_in_int8()


def test_a_model_in_int8_loads_where_the_processor_computes_in_it_and_elsewhere(
    client: Client, platform: Platform, in_int8: Export
) -> None:
    client.jobs.wait(import_files(platform, "quantised", dict(in_int8.files)), progress=False, timeout=120)
    (version,) = client.models.get("quantised").versions
    flags = set(Path("/proc/cpuinfo").read_text().split())
    expected = {"int8"} if flags & {"amx_int8", "avx512_vnni"} else {"bf16", "f32"}
    assert version.serving is not None
    assert version.serving["engine"]["precision"] in expected
    assert version.serving["seam"] <= 1


def test_the_int8_graph_must_keep_the_contract_as_well(
    client: Client, platform: Platform, small_export: Export, in_int8: Export
) -> None:
    files = {**boast(in_int8), "model-int8.onnx": small_export.files["model.onnx"]}
    with pytest.raises(JobFailed, match="the graph has 24 px"):
        client.jobs.wait(import_files(platform, "two-models", files), progress=False, timeout=120)
