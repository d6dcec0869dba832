"""The main job, through REST, Celery, Triton, S3 and SQL."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import zarr
from numpy.typing import NDArray
from overtile import Client
from overtile.shapes import Job
from PIL import Image

from deploy.local.platform import WORKSPACE, Platform
from services.trainer.export import Export, Serving, export_model
from services.trainer.networks import UNet, UNetStn
from services.trainer.networks.inputs import as_input
from services.worker.model_server import TritonServer
from services.worker.predictor import Predictor, ServedModel
from shared.database import make_engine, make_sessions
from shared.domain import models, workspaces
from shared.imaging.masks import close_mask
from shared.imaging.normalisation import to_channels
from shared.imaging.preparation import prepare
from shared.imaging.tiling import Box, Pixels, Tile, plan_tiles, read_mirrored
from shared.schemas.preparation import PreparationIn
from shared.schemas.training import UNetStnIn
from shared.storage import Storage
from tests.e2e.conftest import Register, bring
from tests.lively_networks import make_lively


def segment(client: Client, paths: list[Path], model: str, *, name: str, **parameters: Any) -> Job:
    version = client.datasets.upload(paths, name=name, progress=False)
    job = client.jobs.submit(kind="segment", dataset_version=version, model=model, **parameters)
    return client.jobs.wait(job, progress=False, timeout=120)


def answer_whole(network: UNet, image: Pixels, halo: int, grid: int) -> NDArray[np.float32]:
    """torch fp32 on the whole image at once, extended by mirroring: probabilities (H, W)."""
    height, width = image.shape[:2]
    seen = Box(0, 0, height + -height % grid, width + -width % grid).grow(halo)
    pixels = torch.from_numpy(read_mirrored(image, seen)).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        logits = network(pixels)
    return torch.sigmoid(logits)[0, 0, halo : halo + height, halo : halo + width].numpy()


@pytest.fixture(scope="module")
def done(platform: Platform, model: str, ihc: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Path]:
    """A finished job on a real image and the folder it was downloaded to."""
    out = tmp_path_factory.mktemp("out")
    with Client(platform.url, platform.api_key) as client:
        job = segment(client, [ihc], model, name="done")
        client.jobs.download(job, to=out, progress=False)
    return job, out


def test_an_image_becomes_mask_overlay_probabilities_and_manifest(done: tuple[Job, Path]) -> None:
    job, out = done
    assert job.state == "succeeded"
    mask = tifffile.imread(out / "ihc.png.mask.tif")
    probability = read_map(out / "ihc.png.probability.zarr")
    assert mask.shape == probability.shape[1:] == (512, 512)
    np.testing.assert_array_equal(mask, probability[0] >= 127.5)
    assert 0.01 < mask.mean() < 0.99
    with Image.open(out / "ihc.png.overlay.png") as overlay:
        assert min(overlay.size) >= 512


def test_the_manifest_says_what_was_made_from_what_with_what(done: tuple[Job, Path], ihc: Path) -> None:
    job, out = done
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["job"]["id"] == str(job.id)
    assert manifest["images"][0]["sha256"] == hashlib.sha256(ihc.read_bytes()).hexdigest()
    assert len(manifest["spec"]["model"]["digest"]) == 64
    asked = {"threshold": 0.5, "closing": 0, "views": 1, "empty_tiles": "auto"}
    assert manifest["spec"]["parameters"].items() >= asked.items()
    assert {"python", "numpy", "zarr", "overtile-platform"} <= set(manifest["software"])
    assert [stage["stage"] for stage in manifest["stages"]] == ["bundle", "summarise"]
    assert manifest["images"][0]["facts"]["tiles"] == 1
    for artifact in manifest["artifacts"]:
        assert hashlib.sha256((out / artifact["name"]).read_bytes()).hexdigest() == artifact["sha256"]


def test_the_mask_is_that_of_torch_on_the_whole_image(done: tuple[Job, Path], small_network: UNet, ihc: Path) -> None:
    """The engine may compute in bf16: where torch is not undecided, the mask must be torch's."""
    _, out = done
    image = np.asarray(Image.open(ihc))
    whole = answer_whole(small_network, image, small_network.halo, small_network.grid)
    mask = tifffile.imread(out / "ihc.png.mask.tif")
    clear = np.abs(whole - 0.5) > 0.05
    assert clear.mean() > 0.5
    assert (mask[clear] == (whole >= 0.5)[clear]).mean() > 0.999


class FullPrecision(Storage):
    """The store, whose models ask the engine for fp32."""

    def get_verified(self, key: str, *, sha256: str) -> bytes:
        body = super().get_verified(key, sha256=sha256)
        if not key.endswith("config.json"):
            return body
        config = json.loads(body)
        config["parameters"]["precision"] = {"string_value": "f32"}
        return json.dumps(config).encode()


@pytest.mark.parametrize("views", [1, 4, 8])
def test_through_triton_tiled_is_one_whole_image_request(
    platform: Platform, register: Register, ihc: Path, views: int
) -> None:
    """On a real image, in fp32: quantised to 1/255, tiles of 256 px and one request for all give the same answer."""
    model = find_served(platform, register(platform, "exact"))
    halo = model.contract.halo
    server = TritonServer(platform.environment()["OVERTILE_TRITON_URL"], predict_seconds=60, load_seconds=60)
    predictor = Predictor(server, FullPrecision(platform.load_settings()), in_flight=2)
    predictor.ensure_loaded(model)
    image = np.asarray(Image.open(ihc))
    (whole,) = predictor.predict(model, read_mirrored(image, Box(0, 0, 512, 512).grow(halo))[None], views)
    tiles = plan_tiles(Box(0, 0, 512, 512), core=256, halo=halo)
    shape = (1, 256 + 2 * halo, 256 + 2 * halo, 3)

    def fill(tile: Tile, out: Pixels) -> None:
        out[0] = read_mirrored(image, tile.read)

    tiled = np.zeros_like(whole)
    for tile, (answer,) in predictor.predict_each(model, tiles, lambda _: shape, fill, views):
        tiled[:, *tile.write.slices()] = answer
    assert len(tiles) == 4
    assert whole.std() > 10
    assert np.abs(tiled.astype(int) - whole.astype(int)).max() <= 1
    assert (tiled != whole).mean() < 1e-4  # a value on the edge of two steps may round either way
    np.testing.assert_array_equal(tiled >= 128, whole >= 128)


def test_a_slide_of_many_blocks_has_no_seams(
    client: Client, model: str, small_network: UNet, picture: Callable[[int, int], Path], tmp_path: Path
) -> None:
    path = picture(2500, 2300)  # two blocks each way; neither side is a multiple of anything
    job = segment(client, [path], model, name="blocks")
    client.jobs.download(job, to=tmp_path, kinds=["probability", "mask"], progress=False)
    got = read_map(tmp_path / f"{path.name}.probability.zarr")[0]
    whole = answer_whole(small_network, tifffile.imread(path), small_network.halo, small_network.grid)
    off = np.abs(got - whole * 255)
    seams = np.zeros(off.shape, dtype=bool)
    for line in (256, 512, 1024, 2048):
        seams[line - 2 : line + 2] = seams[:, line - 2 : line + 2] = True
    assert off.mean() < 3
    assert off[seams].mean() < off[~seams].mean() * 1.1 + 0.05
    np.testing.assert_array_equal(tifffile.imread(tmp_path / f"{path.name}.mask.tif"), got >= 127.5)


def test_a_job_reports_the_seams_that_it_measured(
    client: Client, model: str, picture: Callable[[int, int], Path], ihc: Path
) -> None:
    job = segment(client, [picture(2500, 2300), ihc], model, name="seams")
    summary = client.jobs.get(job).summary
    assert summary is not None
    assert summary.seams is not None
    large, small = client.jobs.images(job)
    assert summary.tiles == large.facts["tiles"] + 1
    assert 0 < large.facts["redundancy"] < 0.9
    assert summary.seams.windows == large.result["seams"]["windows"] == 2
    assert summary.seams.largest <= 1
    assert small.result["seams"] is None


def test_an_equalised_and_warped_slide_of_two_blocks_is_torchs_whole_image(
    platform: Platform, client: Client, picture: Callable[[int, int], Path], tmp_path: Path
) -> None:
    """The localiser sees the whole image; every tile must get its part of the one image that it would be warped to."""
    network = make_lively(UNetStnIn(name="unet_stn", widths=[4, 8], overview=64, channels=1))
    assert isinstance(network, UNetStn)
    files = export_model(network, card={}, serving=Serving(equalise=True)).files
    bring(platform, "warped", ask_for(files))
    path = picture(2200, 400)
    job = segment(client, [path], "warped", name="warped")
    client.jobs.download(job, to=tmp_path, kinds=["probability", "manifest"], progress=False)
    got = read_map(tmp_path / f"{path.name}.probability.zarr")[0]
    facts = json.loads((tmp_path / "manifest.json").read_text())["images"][0]["facts"]
    assert facts["width"] < facts["block_side"] < facts["height"]
    theta = torch.tensor([facts["theta"]])

    grey = to_channels(tifffile.imread(path), 1)
    image = prepare(grey, PreparationIn(equalise=True))
    torch.testing.assert_close(theta, find_transform(network, image), rtol=0, atol=1e-4)
    off = np.abs(got - 255 * answer_enriched(network, image, theta))
    assert off.max() <= 2
    assert (off > 1).mean() < 1e-3
    assert np.abs(got - 255 * answer_enriched(network, image, torch.eye(3)[None])).mean() > 3, "it is not warped"
    assert np.abs(got - 255 * answer_enriched(network, grey, theta)).mean() > 3, "it is not equalised"


def test_an_inverting_and_closing_model_gets_what_its_contract_asks(
    platform: Platform, client: Client, small_export: Export, small_network: UNet, ihc: Path, tmp_path: Path
) -> None:
    bring(platform, "inverted", ask_for(small_export.files, invert=True, closing=2))
    job = segment(client, [ihc], "inverted", name="inverted")
    client.jobs.download(job, to=tmp_path, kinds=["probability", "mask"], progress=False)
    got = read_map(tmp_path / "ihc.png.probability.zarr")[0]
    image = 255 - np.asarray(Image.open(ihc))
    whole = answer_whole(small_network, image, small_network.halo, small_network.grid)
    assert np.abs(got - 255 * whole).max() <= 1
    found = (got >= 127.5).astype(np.uint8)
    closed = close_mask(found, 2)
    assert (closed != found).any()
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "ihc.png.mask.tif"), closed)


def test_a_mask_is_closed_across_its_blocks(
    platform: Platform, client: Client, small_export: Export, picture: Callable[[int, int], Path], tmp_path: Path
) -> None:
    bring(platform, "closing", ask_for(small_export.files, closing=5))
    path = picture(2500, 2300)
    job = segment(client, [path], "closing", name="blocks")
    client.jobs.download(job, to=tmp_path, kinds=["probability", "mask"], progress=False)
    found = (read_map(tmp_path / f"{path.name}.probability.zarr")[0] >= 127.5).astype(np.uint8)
    closed = close_mask(found, 5)
    assert (closed != found).any()
    np.testing.assert_array_equal(tifffile.imread(tmp_path / f"{path.name}.mask.tif"), closed)


def test_a_second_run_gives_the_same_bytes(client: Client, model: str, ihc: Path, done: tuple[Job, Path]) -> None:
    again = segment(client, [ihc], model, name="done")
    assert digests(client, again) == digests(client, done[0])


def test_the_threshold_is_the_users(
    client: Client, model: str, ihc: Path, done: tuple[Job, Path], tmp_path: Path
) -> None:
    job = segment(client, [ihc], model, name="done", threshold=0.9)
    client.jobs.download(job, to=tmp_path, kinds=["mask"], progress=False)
    probability = read_map(done[1] / "ihc.png.probability.zarr")[0]
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "ihc.png.mask.tif"), probability >= 0.9 * 255)


def ask_for(files: Mapping[str, bytes], **asked: Any) -> dict[str, bytes]:
    """The files of a model whose contract asks for fp32, and for what else is given."""
    contract, config = json.loads(files["contract.json"]), json.loads(files["config.json"])
    config["parameters"]["precision"] = {"string_value": "f32"}
    card = {"name": "changed by hand, so without the hashes that its export noted"}
    changed = {"contract.json": {**contract, "precision": "f32", **asked}, "config.json": config, "card.json": card}
    return {**files, **{name: json.dumps(content).encode() for name, content in changed.items()}}


def find_transform(network: UNetStn, image: Pixels) -> torch.Tensor:
    """(1, 3, 3), from the overview in bytes, which is what crosses the wire."""
    with torch.no_grad():
        overview = network.overview(as_input(torch.from_numpy(image)[None]))
        return network.localise((overview * 255).round() / 255)


def answer_enriched(network: UNetStn, image: Pixels, theta: torch.Tensor) -> NDArray[np.float32]:
    """torch fp32 on the whole image and its warped self, extended by mirroring: probabilities (H, W).

    Warped by torch in double precision, then rounded to bytes as tiles are: a value must not round the other way.
    """
    height, width = image.shape[:2]
    seen = Box(0, 0, height + -height % network.grid, width + -width % network.grid).grow(network.halo)
    with torch.no_grad():
        values = torch.from_numpy(image).permute(2, 0, 1)[None].double()
        both = torch.cat([values, network.warp(values, theta.double()).round()], dim=1)[0].permute(1, 2, 0)
        enriched = read_mirrored(both.to(torch.uint8).numpy(), seen)
        probability = torch.sigmoid(network.core(as_input(torch.from_numpy(enriched)[None])))[0, 0]
    return probability[:height, :width].numpy()


def read_map(folder: Path) -> Pixels:
    """Probabilities (planes, H, W), as any reader of Zarr gets them."""
    return np.asarray(zarr.open_array(folder / "0", mode="r")[:])


def digests(client: Client, job: Job) -> dict[str, str]:
    """Hash of what a job made, by name; manifest and report hold times and ids."""
    return {a.name: a.sha256 for a in client.jobs.artifacts(job) if a.kind not in ("manifest", "report")}


def find_served(platform: Platform, name: str) -> ServedModel:
    engine = make_engine(platform.load_settings())
    with make_sessions(engine)() as session:
        version = models.get(session, workspaces.find(session, WORKSPACE).id, name).versions[0]
    engine.dispose()
    return ServedModel.of(version)
