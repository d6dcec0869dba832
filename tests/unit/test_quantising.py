"""Int8: the graph that is made, and who decides whether it is served."""

import json
from collections.abc import Iterator

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from services.trainer import quantising
from services.trainer.evaluation import Evaluation
from services.trainer.export import Export, export_model
from services.trainer.job import quantiser_of
from services.trainer.networks import Network
from services.trainer.quantising import Trial
from services.trainer.serving.quantisation import WEIGHTED, find_outer, quantise
from services.worker.inspection import check_contract, inspect
from shared.errors import Cancelled, Rejected
from shared.graphs import analyse
from shared.imaging.probes import known_question
from shared.imaging.tiling import Pixels
from shared.schemas.contracts import Precision
from shared.schemas.training import NetworkIn, UNetIn, UNetPlusPlusIn
from tests.int8_exports import draw_samples, export_in_int8, make_quantiser
from tests.lively_networks import make_lively
from tests.small_trainings import SAMPLES, make_order, train_quietly

QUANTISED = "model-int8.onnx"
NESTED = UNetPlusPlusIn(name="unet_plus_plus", widths=[8, 12, 16], channels=1, classes=3)

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("one_thread")]  # each export takes some seconds


@pytest.fixture(scope="module")
def export() -> Export:
    return export_in_int8()


@pytest.fixture(scope="module")
def network() -> Network:
    return make_lively(UNetIn(widths=[4, 5]))


def predict(graph: bytes, tile: Pixels) -> Pixels:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    answer: Pixels = session.run(None, {"IMAGE": tile[None]})[0][0]
    return answer


def show_tiles(channels: int, *, side: int = 112) -> Iterator[Pixels]:
    return (known_question(side, channels, seed) for seed in range(1, 4))


# The graph.


@pytest.mark.parametrize("order", [UNetIn(widths=[8, 12, 16]), NESTED])
def test_the_int8_graph_answers_nearly_as_the_other(order: NetworkIn) -> None:
    exported = export_model(make_lively(order), card={}).files["model.onnx"]
    tile = known_question(112, order.channels, 0)
    single = predict(exported, tile).astype(int)
    difference = np.abs(predict(quantise(exported, show_tiles(order.channels)), tile) - single)
    assert 0 < difference.mean() < 0.1 * single.std()


def test_all_convolutions_but_the_outer_ones_read_eight_bits(export: Export) -> None:
    graph = onnx.load_from_string(export.files[QUANTISED]).graph
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    weighted = [node for node in graph.node if node.op_type in WEIGHTED]
    wide = [node.name for node in weighted if made_by.get(node.input[0]) != "DequantizeLinear"]
    assert wide == [weighted[0].name, weighted[-1].name]
    assert wide == [node.name for node in weighted if made_by.get(node.input[1]) != "DequantizeLinear"]


def test_every_head_is_an_outer_convolution() -> None:
    """A stem of two, then two branches that are added up, one of them with a transposed convolution."""
    ways = ["x a first", "a b second", "b c left", "b d middle", "d e right"]
    nodes = [
        helper.make_node("ConvTranspose" if name == "middle" else "Conv", [given], [made], name=name)
        for given, made, name in map(str.split, ways)
    ]
    graph = helper.make_graph([*nodes, helper.make_node("Add", ["c", "e"], ["y"], name="sum")], "graph", [], [])
    assert find_outer(graph) == ["first", "left", "right"]


def test_the_int8_graph_depends_on_the_same_pixels(export: Export) -> None:
    single, quantised = (analyse(export.files[name]) for name in ("model.onnx", QUANTISED))
    assert (quantised.grid, quantised.halo, quantised.reach) == (single.grid, single.halo, single.reach)
    assert (quantised.spreading, quantised.normalisations) == ((), ())


def test_the_int8_graph_keeps_the_contract_without_a_seam(export: Export) -> None:
    check_contract(export.files[QUANTISED], export.contract)
    tile_by_tile = export.contract.model_copy(update={"protocol": 1})  # views are the backend's, not the graph's

    def ask(tiles: Pixels, views: int = 1) -> Pixels:
        return np.stack([predict(export.files[QUANTISED], tile) for tile in tiles])

    serving = inspect(tile_by_tile, ask, {})
    assert (serving.seam, serving.beyond_halo) == (0, 0)


def test_an_int8_graph_that_looks_further_than_the_other_is_refused(export: Export) -> None:
    deeper = export_model(make_lively(UNetIn(widths=[3, 4, 5, 6], channels=1)), card={}).files["model.onnx"]
    with pytest.raises(Rejected, match="the graph has 48 px on a grid of 8 px"):
        check_contract(quantise(deeper, show_tiles(1, side=128)), export.contract)


# The decision.


@pytest.mark.parametrize(
    ("dice", "off", "taken"),
    [
        (0.95, 1.0, True),
        (0.8981, 1.0, True),
        (0.8979, 1.0, False),
        (float("nan"), 1.0, False),
        (0.9, 2.0, True),
        (0.9, 2.1, False),
        (0.9, float("nan"), False),
    ],
)
def test_int8_is_taken_if_it_is_as_good_and_gives_the_known_answer(dice: float, off: float, taken: bool) -> None:
    trial = Trial(b"", dice_fp32=0.9, dice_int8=dice, off_known_answer=off, tolerance=3)
    assert trial.taken is taken


def test_a_model_that_is_as_good_in_int8_is_served_in_it(export: Export) -> None:
    assert export.contract.precision is Precision.INT8
    assert json.loads(export.files["config.json"])["parameters"]["precision"] == {"string_value": "int8"}
    assert json.loads(export.files["contract.json"])["precision"] == "int8"


def test_the_card_says_what_int8_costs(export: Export) -> None:
    told = json.loads(export.files["card.json"])
    assert told["int8"] == export.card["int8"]
    assert told["name"] == export.card["name"] == "nuclei"
    assert told["int8"]["dice_fp32"] == 1.0  # the truth is what the network answers
    assert 0.9 < told["int8"]["dice_int8"] < 1.0
    assert told["int8"]["taken"] is True


def test_a_model_that_loses_too_much_is_served_as_if_nobody_had_asked(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = export_model(make_lively(UNetIn(widths=[4, 5]), seed=1), card={}).files["model.onnx"]
    monkeypatch.setattr(quantising, "quantise", lambda graph, tiles: stranger)
    tried, plain = (export_model(network, card={}, quantiser=it) for it in (make_quantiser(network), None))
    assert tried.contract == plain.contract
    assert tried.files.keys() == plain.files.keys()
    assert tried.card["int8"]["taken"] is False
    assert tried.card["int8"]["dice_int8"] < 0.9


def test_images_that_are_held_out_set_no_range() -> None:
    order = make_order(int8=True, epochs=1)
    trained = train_quietly(order)
    made = quantiser_of(order, trained, Evaluation(0.4, []), samples=SAMPLES, check=lambda: None)
    assert made is not None
    assert made.held == trained.held
    names = {sample.name for sample in made.training}
    assert names == {sample.name for sample in SAMPLES} - {sample.name for sample in trained.held}
    assert made.threshold == 0.4


def test_nothing_is_tried_unless_it_was_ordered() -> None:
    order = make_order(epochs=1)
    assert quantiser_of(order, train_quietly(order), Evaluation(0.4, []), samples=SAMPLES, check=lambda: None) is None


@pytest.mark.parametrize("last", [1, 4])
def test_a_cancelled_job_stops_while_ranges_are_found_and_while_images_are_scored(network: Network, last: int) -> None:
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == last:
            raise Cancelled("by the user")

    with pytest.raises(Cancelled):
        export_model(network, card={}, quantiser=make_quantiser(network, check=check))
    assert calls == last


def test_an_image_larger_than_a_core_is_scored_as_if_it_had_been_seen_whole(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantising, "LARGEST", 32)
    held = draw_samples(network, 1, height=70, width=45)
    quantiser = make_quantiser(network, held=held)
    assert export_model(network, card={}, quantiser=quantiser).card["int8"]["dice_fp32"] == 1.0
