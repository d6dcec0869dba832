"""Steps of images: any box holds what the whole would hold there, and the whole what others compute."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage import exposure, filters
from skimage.transform import downscale_local_mean
from skimage.transform import resize as resize_bilinear

from shared.errors import Rejected
from shared.imaging.drawing import draw_nuclei
from shared.imaging.levels import Levels, count_values
from shared.imaging.steps.clahe import Clahe
from shared.imaging.steps.colours import Channels, Equalise, Greyscale, Invert, Normalise, Stain
from shared.imaging.steps.kinds import IMAGE_STEPS, make_image_steps
from shared.imaging.steps.neighbourhoods import Median
from shared.imaging.steps.resizing import Resize
from shared.imaging.steps.views import Frame, ImageStep, View, apply_steps, plan_steps, reframe
from shared.imaging.tiling import Box, Pixels
from shared.schemas.preparation import StainContract
from shared.schemas.steps import IMAGE_STEPS as NAMED
from shared.schemas.steps import as_json, read_steps

STAIN = Stain(StainContract().reference, StainContract().concentrations)
EACH: list[tuple[ImageStep, ...]] = [
    (Resize(side=37),),
    (Resize(scale=0.3),),
    (Resize(scale=1.7),),
    (Channels((2,)),),
    (Channels(("blue", 0, "Green")),),
    (Greyscale(),),
    (Invert(),),
    (Normalise("min_max"),),
    (Normalise("percentile", 2, 98),),
    (Normalise("z_score", deviations=2),),
    (Equalise(),),
    (Clahe(),),
    (Clahe(3, 1.5),),
    (STAIN,),
    (Median(1),),
    (Median(3),),
    (Greyscale(), Clahe(4), Median(2), Resize(scale=0.5)),
    (Resize(scale=2.3), STAIN, Median(1), Normalise("percentile")),
]
SIDE = st.integers(1, 90)


def noise(height: int, width: int, channels: int = 3, *, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def whole(pixels: Pixels, *steps: ImageStep) -> Pixels:
    return plan_steps(View.of(pixels), steps)[0].whole()


class TestBoxes:
    @pytest.mark.parametrize("steps", EACH, ids=str)
    @settings(max_examples=25, deadline=None)
    @given(data=st.data(), height=SIDE, width=SIDE, seed=st.integers(0, 5))
    def test_a_box_holds_what_the_whole_holds_there(
        self, steps: tuple[ImageStep, ...], data: st.DataObject, height: int, width: int, seed: int
    ) -> None:
        view, _ = plan_steps(View.of(noise(height, width, seed=seed)), steps)
        frame = view.frame
        top, left = data.draw(st.integers(0, frame.height - 1)), data.draw(st.integers(0, frame.width - 1))
        bottom, right = data.draw(st.integers(top + 1, frame.height)), data.draw(st.integers(left + 1, frame.width))
        box = Box(top, left, bottom, right)
        everything = view.whole()
        assert everything.shape == (frame.height, frame.width, len(frame.channels))
        assert everything.dtype == np.uint8
        np.testing.assert_array_equal(view.read(box), everything[box.slices()])

    @pytest.mark.parametrize("steps", EACH, ids=str)
    def test_pieces_give_the_same_facts_as_the_whole(self, steps: tuple[ImageStep, ...]) -> None:
        view = View.of(draw_nuclei(200, 260, seed=1, stain="histology")[0])
        cut = View(
            view.frame, view.read, lambda: iter([Box(0, 0, 77, 260), Box(77, 0, 200, 130), Box(77, 130, 200, 260)])
        )
        assert plan_steps(cut, steps)[1] == plan_steps(view, steps)[1]

    @pytest.mark.parametrize("steps", EACH, ids=str)
    def test_facts_come_back_from_the_database_as_they_were(self, steps: tuple[ImageStep, ...]) -> None:
        view = View.of(draw_nuclei(120, 150, seed=1, stain="histology")[0])
        planned, facts = plan_steps(view, steps)
        applied = apply_steps(view, steps, json.loads(json.dumps(facts)))
        box = Box(7, 11, planned.frame.height - 3, planned.frame.width - 5)
        np.testing.assert_array_equal(applied.read(box), planned.whole()[box.slices()])

    def test_a_large_source_is_resized_in_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pixels = noise(300, 200)
        at_once = whole(pixels, Resize(scale=0.4))
        monkeypatch.setattr("shared.imaging.steps.resizing.LARGEST_READ", 1000)
        np.testing.assert_array_equal(whole(pixels, Resize(scale=0.4)), at_once)


class TestAgainstOthers:
    @pytest.mark.parametrize("radius", [1, 2, 3, 5])
    def test_the_median_is_scikit_image_s(self, radius: int) -> None:
        pixels = noise(50, 70, 1)
        expected = filters.median(pixels[:, :, 0], np.ones((2 * radius + 1,) * 2), mode="mirror")
        np.testing.assert_array_equal(whole(pixels, Median(radius))[:, :, 0], expected)

    def test_the_median_of_a_wide_image_is_found_a_few_rows_at_a_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        at_once = whole(noise(50, 70), Median(2))
        monkeypatch.setattr("shared.imaging.steps.neighbourhoods.AT_ONCE", 1000)
        np.testing.assert_array_equal(whole(noise(50, 70), Median(2)), at_once)

    def test_a_shrunken_image_is_the_mean_of_areas(self) -> None:
        pixels = noise(60, 90)
        expected = np.floor(downscale_local_mean(pixels.astype(float), (3, 3, 1)) + 0.5)
        np.testing.assert_array_equal(whole(pixels, Resize(scale=1 / 3)), expected)

    @given(height=st.integers(2, 40), width=st.integers(2, 40), factor=st.floats(0.1, 1))
    @settings(max_examples=40, deadline=None)
    def test_shrinking_keeps_the_mean(self, height: int, width: int, factor: float) -> None:
        pixels = noise(height, width)
        np.testing.assert_allclose(
            whole(pixels, Resize(scale=factor)).mean(axis=(0, 1)), pixels.mean(axis=(0, 1)), atol=0.5
        )

    def test_a_grown_image_is_scikit_image_s_bilinear_one(self) -> None:
        pixels = noise(20, 31)
        expected = resize_bilinear(pixels.astype(float), (50, 78), order=1, mode="edge", anti_aliasing=False)
        difference = whole(pixels, Resize(scale=2.5)) - expected
        assert np.abs(difference).max() <= 0.5 + 1e-6

    def test_clahe_looks_like_scikit_image_s(self) -> None:
        smooth = ndimage.gaussian_filter(noise(256, 256, 1)[:, :, 0].astype(float), 4)
        grey = np.interp(smooth, (smooth.min(), smooth.max()), (0, 255)).astype(np.uint8)
        expected = exposure.equalize_adapthist(grey, kernel_size=32, clip_limit=3 / 256, nbins=256) * 255
        ours = whole(grey[:, :, None], Clahe(8, 3))[:, :, 0]
        assert np.abs(ours - expected).mean() < 8
        assert np.corrcoef(ours.ravel(), expected.ravel())[0, 1] > 0.99

    def test_clahe_of_one_region_without_a_limit_is_histogram_equalisation(self) -> None:
        pixels = draw_nuclei(80, 90, seed=2, stain="fluorescence")[0]
        difference = whole(pixels, Clahe(1, 256)).astype(int) - whole(pixels, Equalise())
        np.testing.assert_array_equal(difference, 0)

    def test_equalising_is_that_of_the_contract(self) -> None:
        pixels = noise(40, 50)
        np.testing.assert_array_equal(
            whole(pixels, Equalise()), Levels.equalising(count_values([pixels])).apply(pixels)
        )

    def test_z_scores_are_those_of_numpy(self) -> None:
        pixels = draw_nuclei(80, 90, seed=2, stain="histology")[0]
        scores = (pixels - pixels.mean(axis=(0, 1))) / pixels.std(axis=(0, 1))
        expected = np.rint(127.5 * (1 + scores.clip(-2, 2) / 2))
        np.testing.assert_array_equal(whole(pixels, Normalise("z_score", deviations=2)), expected)

    def test_min_max_reaches_both_ends(self) -> None:
        pixels = noise(40, 50) // 4 + 30
        after = whole(pixels, Normalise("min_max"))
        assert (after.min(), after.max()) == (0, 255)

    def test_a_grey_image_has_no_stains_to_change(self) -> None:
        pixels = noise(200, 200, 1)
        np.testing.assert_array_equal(whole(pixels, STAIN), pixels)

    def test_an_image_of_one_value_stays_as_it_is(self) -> None:
        pixels = np.full((9, 9, 3), 77, np.uint8)
        for step in (Normalise("min_max"), Normalise("z_score"), Equalise(), STAIN, Median(2), Resize(scale=2)):
            assert (whole(pixels, step) == 77).all(), step


class TestFrames:
    def test_the_scale_of_the_picture_follows_its_size(self) -> None:
        frame = Frame("a.tif", 1000, 2000, mpp=0.25)
        after = Resize(mpp=0.5).reframe(frame)
        assert (after.height, after.width, after.mpp) == (500, 1000, 0.5)

    def test_a_picture_that_is_squeezed_has_no_one_scale(self) -> None:
        assert Resize(side=256).reframe(Frame("a.tif", 1000, 2000, mpp=0.25)).mpp is None

    def test_a_picture_of_unknown_scale_is_not_brought_to_another(self) -> None:
        with pytest.raises(Rejected, match=r"a\.tif: .* does not say its µm per pixel.* by scale or side"):
            Resize(mpp=0.5).reframe(Frame("a.tif", 10, 10))

    def test_a_channel_that_is_not_there_is_refused_with_those_that_are(self) -> None:
        with pytest.raises(Rejected, match=r"a\.tif: it has no channel 'DAPI', only 0 red, 1 green, 2 blue"):
            Channels(("DAPI",)).reframe(Frame("a.tif", 10, 10))

    def test_nothing_is_read_of_an_image_that_a_later_step_refuses(self) -> None:
        def read(box: Box) -> Pixels:
            pytest.fail("the image was read")

        with pytest.raises(Rejected, match="does not say"):
            plan_steps(View(Frame("a.tif", 9, 9), read), [Equalise(), Resize(mpp=1)])

    def test_channels_are_chosen_in_their_order(self) -> None:
        pixels = noise(5, 6)
        np.testing.assert_array_equal(whole(pixels, Channels(("blue", "RED", 1))), pixels[:, :, [2, 0, 1]])


ORDERS: list[dict[str, Any]] = [
    {"step": "resize", "scale": 0.5},
    {"step": "channels", "choose": [0]},
    {"step": "greyscale"},
    {"step": "invert"},
    {"step": "normalise", "method": "percentile"},
    {"step": "equalise"},
    {"step": "clahe"},
    {"step": "stain"},
    {"step": "median"},
]


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order["step"])
def test_a_step_does_what_its_order_says(order: dict[str, Any]) -> None:
    (stored,) = as_json(read_steps([order]))
    (step,) = make_image_steps([stored])
    after = plan_steps(View.of(noise(30, 40)), [step])[0]
    assert (after.frame.height, after.frame.width) == ((15, 20) if order["step"] == "resize" else (30, 40))
    assert len(after.frame.channels) == (1 if order["step"] in ("channels", "greyscale") else 3)


def test_every_step_that_can_be_ordered_is_known() -> None:
    assert set(IMAGE_STEPS) == NAMED == {order["step"] for order in ORDERS}


def test_frames_follow_without_reading() -> None:
    steps = [Greyscale(), Median(2), Resize(scale=0.5)]
    assert reframe(Frame("a", 30, 41), steps) == plan_steps(View.of(noise(30, 41), name="a"), steps)[0].frame
