"""The report of an evaluation: what it says about models, and its page."""

from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from services.worker.reports.evaluation import BASELINE, EvaluationReport, ScoredImage, fill_evaluation
from services.worker.reports.evaluation_page import draw_evaluation, say_verdicts
from services.worker.stages.summarise_evaluation import describe, name_models
from services.worker.writers.panels import draw_panel
from shared.errors import NotFound
from shared.imaging.metrics.accumulating import AnswerBlock, Evidence, TruthBlock

HOSTILE = '"><script>alert(1)</script><img src=http://evil.example/x onerror=alert(1)>{{ 7*7 }}.png'
VOID = {"meta", "img", "link", "br", "line", "polyline", "circle"}
PANEL = draw_panel(
    np.full((8, 8, 3), 90, np.uint8),
    TruthBlock(np.eye(8, dtype=np.int32)),
    AnswerBlock(np.eye(8, dtype=np.uint8)),
)


def scored(name: str, aji: float, *, model: int = 0, baseline: float | None = None, split: str = "test") -> ScoredImage:
    levels = np.zeros((2, 256), np.int64)
    levels[0, 20], levels[1, 230] = 90, 10
    row = {"jaccard": aji, "f1": aji, "aji": aji, "count_error": 1}
    below = None if baseline is None else {"jaccard": baseline, "aji": baseline}
    method = None if baseline is None else "bright"
    evidence = Evidence(row, levels)
    return ScoredImage(name, model, evidence, split=split, method=method, baseline=below, panel=f"{name}/{model}")


def report(images: Sequence[ScoredImage], titles: Sequence[str] = ("nuclei@4",), **rest: object) -> EvaluationReport:
    told = {"dataset": "cohort-7@2", "created": "2026-01-01T00:00:00Z", "about": [("model", "nuclei@4")]}
    return fill_evaluation(images, titles, **{**told, **rest})


def draw(found: EvaluationReport) -> str:
    return draw_evaluation(found, [0.5] * len(found.models), lambda key: PANEL).decode()


def spread(count: int, *, gain: float = 0.0) -> list[ScoredImage]:
    """Of two models, the first better by about `gain`, and a baseline that is worse than both."""
    values = np.random.default_rng(0).uniform(0.4, 0.7, count)
    return [
        image
        for number, value in enumerate(values)
        for image in (
            scored(f"{number}.png", value + gain * (1 + number / count), baseline=value - 0.2),
            scored(f"{number}.png", value, model=1),
        )
    ]


class Tags(HTMLParser):
    """Fails where a tag is not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:  # closed in itself, as SVG has it
            return
        assert self.open.pop() == tag


def test_images_are_ranked_from_the_worst():
    found = report([scored("a", 0.9), scored("b", 0.1), scored("c", 0.5), scored("d", 0.7)])
    assert [one.name for one in found.worst] == ["b", "c"]
    assert [one.name for one in found.best] == ["a", "d"]


def test_no_image_is_among_the_worst_and_the_best():
    found = report([scored(str(number), number / 9) for number in range(9)])
    assert not {one.name for one in found.worst} & {one.name for one in found.best}


def test_a_single_image_is_the_worst_and_no_best():
    found = report([scored("a", 0.5)])
    assert (len(found.worst), len(found.best)) == (1, 0)


def test_images_on_which_the_models_differ_most_come_first():
    images = [scored("a", 0.9), scored("a", 0.8, model=1), scored("b", 0.2), scored("b", 0.7, model=1)]
    found = report(images, ["nuclei@4", "nuclei@3"])
    assert [one.name for one in found.differing] == ["b", "a"]
    assert [title for title, _ in found.differing[0].panels] == ["nuclei@4", "nuclei@3"]


def test_the_first_model_is_compared_with_the_second_and_the_baseline():
    found = report(spread(12, gain=0.1), ["nuclei@4", "nuclei@3"])
    assert found.differences["aji"].verdict == "higher"
    assert found.gains["aji"].mean > found.differences["aji"].mean > 0.1


def test_a_difference_that_may_be_chance_is_called_undecided():
    found = report(spread(3, gain=0.1), ["nuclei@4", "nuclei@3"])
    verdict, text = next(iter(say_verdicts(found)))
    assert verdict == "undecided"
    assert "cannot be told apart" in text


def test_a_worse_model_is_called_worse():
    verdict, text = next(iter(say_verdicts(report(spread(12, gain=-0.1), ["nuclei@4", "nuclei@3"]))))
    assert (verdict, "nuclei@4 is worse than nuclei@3" in text) == ("lower", True)


def test_the_table_has_a_row_for_each_image_and_contender():
    rows = report(spread(3), ["nuclei@4", "nuclei@3"]).list_rows()
    assert [row["model"] for row in rows] == ["nuclei@4"] * 3 + ["nuclei@3"] * 3 + [BASELINE] * 3
    assert {row["split"] for row in rows} == {"test"}


def test_means_are_given_for_each_of_several_splits():
    found = report([scored("a", 0.9, split="train"), scored("b", 0.3), scored("c", 0.5)])
    assert [(name, means["aji"].mean) for _, name, means in found.parts] == [("test", 0.4), ("train", 0.9)]


def test_one_split_is_no_part():
    assert report([scored("a", 0.9), scored("b", 0.3)]).parts == []


def test_matrices_of_images_with_fewer_classes_add_up():
    images = [
        ScoredImage("a", 0, Evidence({"jaccard": 1.0}, None, np.eye(2, dtype=np.int64))),
        ScoredImage("b", 0, Evidence({"jaccard": 1.0}, None, np.eye(3, dtype=np.int64))),
    ]
    matrix = report(images).models[0].matrix
    assert matrix is not None
    assert matrix.tolist() == [[2, 0, 0], [0, 2, 0], [0, 0, 1]]


def test_an_evaluation_of_nothing_is_refused():
    with pytest.raises(ValueError, match="without a scored image"):
        report([])


@pytest.mark.parametrize("images", [[scored("a", 0.5)], spread(9, gain=0.1), [scored("a", float("nan"))]])
def test_every_tag_of_the_page_is_closed(images):
    titles = ["nuclei@4", "nuclei@3"] if len(images) > 1 else ["nuclei@4"]
    tags = Tags()
    tags.feed(draw(report(images, titles)))
    assert tags.open == []


def test_the_page_asks_nobody_for_anything():
    tags = Tags()
    tags.feed(draw(report(spread(5), ["nuclei@4", "nuclei@3"])))
    sources = [str(value) for _, attrs in tags.seen for name, value in attrs.items() if name in ("src", "href")]
    assert sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)


def test_names_are_shown_and_never_obeyed():
    found = report(
        [scored(HOSTILE, 0.5, baseline=0.4)],
        [HOSTILE],
        dataset=HOSTILE,
        failed=[(HOSTILE, HOSTILE)],
        notes=[(HOSTILE, HOSTILE)],
        left_out=1,
        left_out_names=[HOSTILE],
    )
    page = draw(found)
    tags = Tags()
    tags.feed(page)
    assert "script" not in {tag for tag, _ in tags.seen}
    assert not any("onerror" in attrs for _, attrs in tags.seen)
    assert "{{ 7*7 }}" in page


def test_images_without_a_mask_are_counted_and_some_named():
    page = draw(report([scored("a", 0.5)], left_out=7, left_out_names=["lone.png"]))
    assert "lone.png" in page
    assert "and 6 more" in page


def test_a_long_list_of_images_ends_with_where_the_rest_is():
    page = draw(report([scored(f"{number}.png", number / 300) for number in range(300)]))
    assert "and 100 more, in scores.csv" in page


def test_the_page_names_the_classes_of_the_matrix():
    evidence = Evidence({"jaccard": 0.5, "jaccard_class_1": 0.5}, None, np.array([[3, 1], [1, 3]]))
    page = draw(report([ScoredImage("a", 0, evidence)], class_names=["background", "tumour"]))
    assert "IoU of tumour" in page
    assert "75.0%" in page


def test_the_description_is_json_without_nan():
    found = describe(report([scored("a", float("nan")), scored("b", 0.5)]))
    assert found["calibration"]["nuclei@4"]["observed"].count(None) == 13


def part(version: int, threshold: float = 0.5, method: str = "watershed") -> dict[str, object]:
    parameters = {"threshold": threshold, "objects": {"method": method}}
    return {"model": {"name": "nuclei", "version": version}, "parameters": parameters}


@pytest.mark.parametrize(
    ("parts", "titles"),
    [
        ([part(4)], ["nuclei@4"]),
        ([part(4), part(3)], ["nuclei@4", "nuclei@3"]),
        ([part(4, 0.7), part(4)], ["nuclei@4 (threshold 0.7)", "nuclei@4 (threshold 0.5)"]),
        ([part(4), part(4, method="components")], ["nuclei@4 (watershed)", "nuclei@4 (components)"]),
    ],
)
def test_no_two_models_have_one_title(parts, titles):
    assert name_models(parts) == titles


def test_images_without_the_score_are_neither_the_worst_nor_the_best():
    found = report([scored("a", float("nan")), scored("b", 0.1), scored("c", float("nan")), scored("d", 0.7)])
    assert ([one.name for one in found.worst], [one.name for one in found.best]) == (["b"], ["d"])


def test_a_score_that_one_model_lacks_is_a_dash():
    images = [scored("a", 0.5), scored("a", float("nan"), model=1)]
    assert report(images, ["nuclei@4", "nuclei@3"]).worst[0].score == "nuclei@4 0.500, nuclei@3 –"


def test_what_is_said_twice_about_an_evaluation_is_told_twice():
    about = [("its threshold", "0.5"), ("its threshold", "0.7")]
    assert describe(report([scored("a", 0.5)], about=about))["about"] == [list(pair) for pair in about]


def test_groups_beyond_those_that_are_shown_are_counted():
    images = [replace(scored(str(number), 0.5), group=f"patient {number:03}") for number in range(50)]
    found = report(images)
    assert (len(found.parts), found.more_parts) == (40, 10)
    assert "and 10 more; scores.csv" in draw(found)


def test_long_lists_of_failures_and_notes_say_how_many_more_there_are():
    told = [(str(number), "a reason") for number in range(230)]
    page = draw(report([scored("a", 0.5)], failed=told, notes=told))
    assert "and 30 more, in evaluation.json<" in page
    assert "and 30 more, in evaluation.json and scores.csv" in page


def test_notes_stand_beside_their_image_in_the_table_and_in_the_description():
    found = report([scored("a", 0.5), scored("b", 0.5)], notes=[("a", "blurred"), ("a", "overexposed")])
    assert [row["notes"] for row in found.list_rows()] == ["blurred; overexposed", None]
    assert {"name": "a", "note": "blurred"} in describe(found)["notes"]


def test_a_model_that_chooses_between_classes_has_no_threshold_in_its_charts():
    found = report([scored("a", 0.5)])
    assert "threshold that was used" in draw(found)
    page = draw_evaluation(found, [None], lambda key: PANEL).decode()
    assert "threshold that was used" not in page
    assert "first used" not in page


def test_a_mean_over_fewer_images_than_the_others_says_so():
    page = draw(report([scored("a", 0.5, baseline=0.4), scored("b", 0.6)]))
    assert "of 1 image<" in page


def test_a_page_lacks_a_picture_that_is_gone():
    def fetch(key: str) -> bytes:
        raise NotFound(key)

    assert "<img" not in draw_evaluation(report([scored("a", 0.5)]), [0.5], fetch).decode()


def test_classes_that_the_model_does_not_know_are_called_other():
    evidence = Evidence({"jaccard": 0.5}, None, np.eye(3, dtype=np.int64))
    page = draw(report([ScoredImage("a", 0, evidence)], class_names=["background", "tumour"]))
    assert "<bdi>other</bdi>" in page
