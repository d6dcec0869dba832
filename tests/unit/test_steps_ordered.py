"""Lists of steps as they are ordered: what follows what, what they are called in digests."""

import json
from typing import Any

import pytest

from shared.imaging.steps.mask_steps import MASK_STEPS
from shared.schemas.step_kinds import MedianStep
from shared.schemas.steps import IMAGE_STEPS, SET_STEPS, as_json, canonical, image_steps, read_steps

WRONG: list[tuple[list[dict[str, Any]], str]] = [
    ([{"step": "sharpen"}], "sharpen"),
    ([{"step": "median", "size": 3}], "not permitted"),
    ([{"step": "median", "radius": 6}], "less than or equal to 5"),
    ([{"step": "resize"}], "one of side, scale and mpp"),
    ([{"step": "resize", "side": 256, "scale": 2}], "one of side, scale and mpp"),
    ([{"step": "resize", "side": 256}, {"step": "resize", "side": 128}], "resize may come once only"),
    ([{"step": "channels", "choose": [0, 1]}], "one channel or three"),
    ([{"step": "invert"}, {"step": "channels", "choose": [0]}], "channels must be the first"),
    ([{"step": "greyscale"}, {"step": "stain"}], "stain after greyscale has no colours"),
    ([{"step": "channels", "choose": ["DAPI"]}, {"step": "greyscale"}], "greyscale after channels has no colours"),
    ([{"step": "equalise"}, {"step": "stain"}], "stain must come before equalise"),
    ([{"step": "normalise", "method": "percentile", "low": 50, "high": 2}], "percentiles rise"),
    ([{"step": "tile"}, {"step": "greyscale"}], "greyscale must come before tile"),
    ([{"step": "augment"}, {"step": "split"}], "split must come before augment"),
    ([{"step": "split"}, {"step": "tile"}], "tile must come before split"),
    ([{"step": "tile", "size": 64, "overlap": 64}], "overlap by less than that"),
    ([{"step": "split", "validation": 0.6, "test": 0.4}], "nothing to train on"),
    ([{"step": "split", "by": "list"}], "validation_names, test_names"),
    ([{"step": "split", "by": "list", "validation_names": ["a"], "test_names": ["a"]}], "a is to validate and to test"),
]


@pytest.mark.parametrize(("steps", "reason"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
def test_steps_that_cannot_follow_are_refused_with_the_reason(steps: list[dict[str, Any]], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_steps(steps)


def test_a_whole_list_comes_back_as_it_was_stored() -> None:
    orders: list[dict[str, Any]] = [
        {"step": "stain"},
        {"step": "greyscale"},
        {"step": "map_classes", "mapping": {"3": 1}},
        {"step": "resize", "mpp": 0.5},
        {"step": "boundary", "output": "class"},
        {"step": "tile"},
        {"step": "split", "by": "group", "test_names": ["a"]},
        {"step": "augment"},
    ]
    steps = read_steps(orders)
    assert read_steps(json.loads(json.dumps(as_json(steps)))) == steps


class TestDigests:
    def test_what_is_left_out_is_the_default(self) -> None:
        assert canonical(read_steps([{"step": "median"}])) == canonical(read_steps([{"radius": 1, "step": "median"}]))

    def test_another_parameter_is_another_text(self) -> None:
        assert canonical(read_steps([{"step": "median"}])) != canonical(read_steps([{"step": "median", "radius": 2}]))

    def test_a_changed_algorithm_is_another_text(self, monkeypatch: pytest.MonkeyPatch) -> None:
        steps = read_steps([{"step": "median"}])
        before = canonical(steps)
        monkeypatch.setattr(MedianStep, "version", 2)
        assert canonical(steps) != before


def test_a_model_carries_the_steps_of_images_alone() -> None:
    steps = read_steps([{"step": "merge"}, {"step": "clahe"}, {"step": "fill"}, {"step": "median"}, {"step": "split"}])
    assert [step.step for step in image_steps(steps)] == ["clahe", "median"]


def test_every_kind_belongs_to_one_of_three() -> None:
    assert not IMAGE_STEPS & set(MASK_STEPS)
    assert not set(SET_STEPS) & (IMAGE_STEPS | set(MASK_STEPS))
