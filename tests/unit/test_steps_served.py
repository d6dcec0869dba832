"""Steps at serving time: a contract carries them, a segment job does them, and the mask is the image's own size."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import numpy as np
import onnxruntime
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from services.trainer.evaluation import Evaluation
from services.trainer.export import Serving, export_model
from services.trainer.job import serving_of
from services.worker.predictor import Predictor, ServedModel
from services.worker.settings import WorkerSettings
from services.worker.stages.facts import ImageFacts
from services.worker.stages.plan import find_facts, skip_empty_tiles
from services.worker.stages.source import find_source, look_over
from services.worker.stages.views import steps_of, view_of
from shared.errors import Rejected
from shared.imaging.drawing import draw_nuclei
from shared.imaging.masks import find_classes
from shared.imaging.normalisation import to_channels, to_rgb
from shared.imaging.preparation import prepare
from shared.imaging.steps.views import View, plan_steps
from shared.imaging.tiling import Box, Pixels, mirror_read, plan_tiles
from shared.imaging.warping import average_overview, read_warped
from shared.schemas.contracts import TilingContract, WarpContract
from shared.schemas.steps import image_steps, read_steps
from shared.schemas.training import TrainIn, UNetIn
from shared.slides import open_slide
from tests.lively_networks import make_lively
from tests.rows import CONTRACT

SETTINGS = WorkerSettings.model_construct(block_side=2048, engine_bytes=6_000_000_000)
HEIGHT, WIDTH = 300, 410
UNUSED = cast("Predictor", None)
THETA = np.array([[0.9, 0.1, 0.05], [-0.1, 1.1, 0], [0.05, 0, 1]], dtype=np.float32)
LISTS: list[list[dict[str, Any]]] = [
    [{"step": "greyscale"}, {"step": "clahe"}, {"step": "median"}, {"step": "resize", "scale": 0.5}],
    [{"step": "channels", "choose": ["green"]}, {"step": "normalise", "method": "z_score"}],
    [{"step": "resize", "mpp": 0.2}, {"step": "stain"}, {"step": "invert"}],
    [{"step": "resize", "side": 256}, {"step": "resize", "side": 128}],  # a dataset made of a dataset
]
AFTERWARDS: list[dict[str, Any]] = [
    {},
    {"channels": 1, "equalise": True},
    {"stain": {}, "stretch": [1, 99], "invert": True},
]


class Localiser:
    """Finds one transform whatever it is shown, and remembers what that was."""

    def __init__(self) -> None:
        self.seen: Pixels | None = None

    def ensure_loaded(self, model: ServedModel) -> None: ...

    def localise(self, model: ServedModel, overview: Pixels) -> NDArray[np.float32]:
        self.seen = overview
        return THETA


@pytest.fixture(scope="module")
def picture() -> Pixels:
    return draw_nuclei(HEIGHT, WIDTH, seed=4, stain="histology")[0]


@pytest.fixture(scope="module")
def slide_path(tmp_path_factory: pytest.TempPathFactory, picture: Pixels) -> Path:
    """A tiled TIFF of 0.25 µm per pixel."""
    path = tmp_path_factory.mktemp("slides") / "a.tif"
    scale: dict[str, Any] = {"resolution": (40_000, 40_000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, picture, tile=(64, 64), photometric="rgb", **scale)
    return path


def make_contract(steps: list[dict[str, Any]], **changes: Any) -> TilingContract:
    stored = {**CONTRACT.model_dump(mode="json"), "steps": steps, **changes}
    return TilingContract.model_validate_json(TilingContract.model_validate(stored).model_dump_json())


def plan(path: Path, contract: TilingContract, *, predictor: Predictor = UNUSED) -> ImageFacts:
    """What planning finds, after a way through the database."""
    model = ServedModel(UUID(int=0), UUID(int=1), {}, contract)
    with open_slide(path) as slide:
        facts = find_facts(slide, contract, SETTINGS, name="a.tif")
        facts = look_over(slide, facts, model, predictor=predictor, check=lambda: None)
    return ImageFacts.model_validate_json(facts.model_dump_json())


def prepare_whole(picture: Pixels, contract: TilingContract, *, mpp: float = 0.25) -> Pixels:
    """The picture as a training sees it that was given what preprocessing made of it."""
    view, _ = plan_steps(View.of(picture, mpp=mpp), steps_of(contract.steps))
    return prepare(to_channels(to_rgb(view.whole()), contract.channels), contract)


class TestSource:
    @pytest.mark.parametrize("steps", LISTS, ids=lambda steps: "+".join(step["step"] for step in steps))
    @pytest.mark.parametrize("asked", AFTERWARDS, ids="+".join)
    def test_every_box_holds_what_training_saw_there(
        self, slide_path: Path, picture: Pixels, steps: list[dict[str, Any]], asked: dict[str, Any]
    ) -> None:
        contract = make_contract(steps, **asked)
        whole, facts = prepare_whole(picture, contract), plan(slide_path, contract)
        assert (facts.height, facts.width) == whole.shape[:2]
        with open_slide(slide_path) as slide:
            read = find_source(slide, facts, contract, check=lambda: None)
            for box in (Box(0, 0, facts.height, facts.width), Box(37, 51, 101, 113), Box(99, 0, 100, 1)):
                np.testing.assert_array_equal(read(box), whole[box.slices()])

    def test_a_warp_is_of_the_image_after_the_steps(self, slide_path: Path, picture: Pixels) -> None:
        warp = WarpContract(kind="projective", overview=32, channels=2)
        contract = make_contract(LISTS[0], channels=1, warp=warp.model_dump())
        localiser = Localiser()
        facts = plan(slide_path, contract, predictor=cast("Predictor", localiser))
        whole = prepare_whole(picture, contract)
        np.testing.assert_array_equal(localiser.seen, average_overview(whole, 32))
        box, (height, width) = Box(20, 30, 90, 120), whole.shape[:2]
        warped = read_warped(lambda part: whole[part.slices()], THETA, box, height=height, width=width)
        with open_slide(slide_path) as slide:
            read = find_source(slide, facts, contract, check=lambda: None)(box)
        np.testing.assert_array_equal(read, np.concatenate([whole[box.slices()], warped], axis=2))

    def test_a_grey_file_stays_grey_until_the_network_wants_colours(self, tmp_path: Path) -> None:
        grey = np.random.default_rng(0).integers(0, 256, (50, 60), dtype=np.uint8)
        tifffile.imwrite(tmp_path / "grey.tif", grey, tile=(16, 16))
        with open_slide(tmp_path / "grey.tif") as slide:
            view = view_of(slide, [])
            np.testing.assert_array_equal(view.whole()[:, :, 0], grey)
            facts = plan(tmp_path / "grey.tif", CONTRACT)
            read = find_source(slide, facts, CONTRACT, check=lambda: None)(Box(0, 0, 50, 60))
        np.testing.assert_array_equal(read, to_rgb(grey))

    def test_an_image_that_a_step_cannot_take_is_refused_by_its_name(self, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "a.tif", np.zeros((50, 60), np.uint8))
        with pytest.raises(Rejected, match=r"a\.tif: the file does not say its µm per pixel"):
            plan(tmp_path / "a.tif", make_contract([{"step": "resize", "mpp": 0.5}]))

    def test_work_stops_between_two_reads(self, slide_path: Path) -> None:
        class Stopped(Exception):
            pass

        def stop() -> None:
            raise Stopped

        contract = make_contract(LISTS[0])
        facts = plan(slide_path, contract)
        with open_slide(slide_path) as slide, pytest.raises(Stopped):
            find_source(slide, facts, contract, check=stop)(Box(0, 0, 1, 1))


class TestSize:
    def test_the_plan_is_of_the_resized_image_and_knows_its_own(self, slide_path: Path) -> None:
        facts = plan(slide_path, make_contract(LISTS[0], cores=[64]))
        assert (facts.height, facts.width, *facts.size) == (150, 205, HEIGHT, WIDTH)
        assert facts.mpp == pytest.approx(0.5)
        assert facts.mask_mpp == pytest.approx(0.25)
        assert facts.tiles == 3 * 4

    def test_without_resizing_there_is_one_size(self, slide_path: Path) -> None:
        facts = plan(slide_path, make_contract([{"step": "median"}]))
        assert facts.own is None
        assert facts.size == (HEIGHT, WIDTH)
        assert list(facts.own_blocks()) == list(facts.blocks())

    @given(data=st.data(), own=st.integers(1, 60), height=st.integers(1, 60), width=st.integers(1, 60))
    @settings(deadline=None)
    def test_each_pixel_of_the_mask_is_that_at_its_middle(
        self, data: st.DataObject, own: int, height: int, width: int
    ) -> None:
        facts = ImageFacts(
            format="png", height=height, width=width, mpp=None, window=None, core=16, block_side=16, own=(own, 50)
        )
        classes = np.arange(height * width).reshape(height, width)
        rows, columns = ((2 * np.arange(n) + 1) * m // (2 * n) for n, m in ((own, height), (50, width)))
        whole = classes[np.ix_(rows, columns)]
        top = data.draw(st.integers(0, own - 1))
        box = Box(top, 7, data.draw(st.integers(top + 1, own)), 44)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("shared.imaging.steps.resizing.LARGEST_PLANE", 64)
            found = facts.read_own(lambda seen: cast("Pixels", classes[seen.slices()]), box)
        np.testing.assert_array_equal(found, whole[box.slices()])

    def test_glass_is_left_out_of_a_resized_slide_too(self, tmp_path: Path) -> None:
        noise = np.random.default_rng(0).integers(-2, 3, (1500, 2000, 3))
        picture = (np.array([243, 242, 245]) + noise).astype(np.uint8)
        picture[1400:1412, 1900:1912] = (120, 60, 140)
        tifffile.imwrite(tmp_path / "glass.tif", picture, tile=(256, 256), photometric="rgb")
        contract = make_contract([{"step": "resize", "scale": 0.5}])
        with open_slide(tmp_path / "glass.tif") as slide:
            settings = SETTINGS.model_copy(update={"block_side": 256})
            facts = find_facts(slide, contract, settings, name="glass")
            facts = skip_empty_tiles(slide, facts.model_copy(update={"block_side": 256}), "auto", check=lambda: None)
        assert facts.tiles - facts.skipped in (1, 2)
        assert facts.is_predicted(Box(700, 950, 706, 956))


class TestContracts:
    def test_a_training_hands_its_dataset_s_steps_of_images_on(self) -> None:
        order = TrainIn.model_validate({"kind": "train", "dataset_version": UUID(int=0), "model": "nuclei"})
        orders = [{"step": "merge"}, *LISTS[0], {"step": "tile"}, {"step": "split"}, *LISTS[0]]
        serving = asdict(serving_of(order, Evaluation(0.5, []), steps=orders))
        contract = TilingContract.model_validate({**CONTRACT.model_dump(), **serving})
        assert contract.steps == image_steps(read_steps(LISTS[0])) * 2

    def test_a_contract_from_before_there_were_steps_has_none(self) -> None:
        assert TilingContract.model_validate(CONTRACT.model_dump(exclude={"steps"})).steps == []

    @pytest.mark.parametrize(
        "steps", [[{"step": "sharpen"}], [{"step": "median", "shape": "disc"}], [{"step": "tile"}]]
    )
    def test_a_step_that_is_not_known_is_not_served(self, steps: list[dict[str, Any]]) -> None:
        with pytest.raises(ValidationError, match="steps"):
            make_contract(steps)

    def test_a_contract_that_asks_for_what_is_not_known_is_not_served(self) -> None:
        with pytest.raises(ValidationError, match="not permitted"):
            TilingContract.model_validate({**CONTRACT.model_dump(), "deblur": True})


@pytest.mark.long  # the export takes some seconds
def test_a_model_with_steps_answers_the_same_tile_by_tile(slide_path: Path, picture: Pixels) -> None:
    network = make_lively(UNetIn(widths=[4, 5, 6], channels=1))
    steps = image_steps(read_steps(LISTS[0]))
    export = export_model(network, card={}, serving=Serving(steps=steps))
    contract = TilingContract.model_validate_json(export.files["contract.json"])
    assert contract.steps == steps
    session = onnxruntime.InferenceSession(export.files["model.onnx"], providers=["CPUExecutionProvider"])
    facts = plan(slide_path, contract)
    with open_slide(slide_path) as slide:
        read = find_source(slide, facts, contract, check=lambda: None)

        def answer(core: int) -> NDArray[np.int_]:
            planes = np.zeros((1, facts.height, facts.width), dtype=int)
            for tile in plan_tiles(Box(0, 0, facts.height, facts.width), core=core, halo=contract.halo):
                pixels = mirror_read(read, tile.read, height=facts.height, width=facts.width)
                found = session.run(["PROBABILITY"], {"IMAGE": pixels[None]})[0][0]
                planes[:, *tile.write.slices()] = found[:, : tile.write.height, : tile.write.width]
            return planes

        tiled, whole = answer(64), answer(256)
    assert np.abs(tiled - whole).max() <= 1, "steps of 1/255, for the engine's rounding"
    assert whole.std() > 10
    classes = find_classes(whole.astype(np.uint8), threshold=0.5)
    mask = facts.read_own(lambda box: classes[box.slices()], Box(0, 0, HEIGHT, WIDTH))
    np.testing.assert_array_equal(mask, classes.repeat(2, axis=0).repeat(2, axis=1))
