"""What an export promises of tiles, and who looks whether it is kept."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from pydantic import ValidationError
from torch import nn

from services.trainer.export import Export, export_model
from services.trainer.networks import Network
from services.trainer.serving.checks import Unfaithful
from services.trainer.serving.exactness import find_promise
from services.trainer.serving.served_graph import ServedGraph
from services.worker.connection import Refused
from services.worker.inspection import MEND, check_contract, inspect
from shared.errors import Rejected
from shared.graphs import analyse
from shared.imaging.probes import known_question, measure_beyond_halo, measure_seam
from shared.imaging.tiling import Pixels
from shared.schemas.contracts import Exactness, TilingContract
from shared.schemas.training import UNetIn
from tests.lively_networks import heads_of, make_lively

pytestmark = pytest.mark.long  # each export takes some seconds

ENGINE = {"engine": "onnxruntime", "version": "1", "precision": "f32", "device": "CPU"}
SMALL = UNetIn(widths=[4, 5, 6])
CONTRAST = 0.02


def spread(network: Network) -> Network:
    """The network with InstanceNorm in the place of BatchNorm."""
    for block in list(network.modules()):
        for name, layer in block.named_children():
            if isinstance(layer, nn.BatchNorm2d):
                setattr(block, name, nn.InstanceNorm2d(layer.num_features, affine=True))
    return network


def boast(network: Network, *, contrast: float) -> Network:
    """The network with a halo that is too small for it, and logits of which only that share is left."""
    network.halo -= network.grid
    with torch.no_grad():
        for head in heads_of(network):
            head.weight *= contrast
    return network


@pytest.fixture(scope="module")
def exact() -> Export:
    return export_model(make_lively(SMALL), card={})


@pytest.fixture(scope="module")
def untileable() -> Export:
    return export_model(spread(make_lively(SMALL)), card={})


@pytest.fixture(scope="module")
def tolerant() -> Export:
    return export_model(boast(make_lively(SMALL), contrast=CONTRAST), card={})


class OnnxRuntime:
    """Answers tiles as the served graph does, brighter by `haste` for a tile that is not the largest seen yet."""

    def __init__(self, export: Export, *, haste: int = 0) -> None:
        self.session = onnxruntime.InferenceSession(export.files["model.onnx"], providers=["CPUExecutionProvider"])
        self.haste = haste
        self.largest = 0

    def __call__(self, tiles: Pixels, views: int = 1) -> Pixels:
        turns = [slice(None), slice(None, None, -1)] if views > 1 else [slice(None)]
        turned = [self.answer(tiles[:, down, across])[:, :, down, across] for down in turns for across in turns]
        self.largest = max(self.largest, tiles[0].size)
        hasty = self.haste if tiles[0].size < self.largest else 0
        shifted: Pixels = np.clip(np.rint(np.mean(turned, axis=0)) + hasty, 0, 255).astype(np.uint8)
        return shifted

    def answer(self, tiles: Pixels) -> Pixels:
        answer: Pixels = self.session.run(None, {"IMAGE": tiles})[0]
        return answer


def change(export: Export, **changes: Any) -> TilingContract:
    return TilingContract.model_validate({**export.contract.model_dump(), **changes})


def test_what_can_be_computed_of_the_graph_stands_in_the_contract(exact: Export) -> None:
    facts = analyse(exact.files["model.onnx"])
    contract = exact.contract
    assert (contract.exactness, contract.bound) == (Exactness.EXACT, None)
    assert (contract.halo, contract.grid, contract.reach) == (24, 4, 22) == (facts.halo, facts.grid, facts.reach)
    assert contract.bytes_per_pixel == facts.bytes_per_pixel


def test_five_levels_look_94_px_far() -> None:
    facts = analyse((Path(__file__).parents[2] / "models" / "nuclei-starter" / "model.onnx").read_bytes())
    assert (facts.halo, facts.grid, facts.reach) == (96, 16, 94)


def test_a_network_that_normalises_over_the_tile_is_exported_as_untileable(untileable: Export) -> None:
    contract = untileable.contract
    assert (contract.exactness, contract.reach, contract.bound) == (Exactness.UNTILEABLE, None, None)
    assert json.loads(untileable.files["contract.json"])["exactness"] == "untileable"


def test_a_network_whose_halo_is_a_little_too_small_is_tolerant_within_a_measured_bound(tolerant: Export) -> None:
    contract = tolerant.contract
    assert (contract.exactness, contract.halo, contract.reach) == (Exactness.TOLERANT, 20, 22)
    assert contract.bound is not None
    assert contract.bound <= 2


def test_a_network_whose_tiles_show_seams_is_not_exported(tolerant: Export) -> None:
    model = onnx.load_from_string(tolerant.files["model.onnx"])
    (head,) = (tensor for tensor in model.graph.initializer if tensor.name.endswith("head.weight"))
    head.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(head) / CONTRAST, head.name))
    served = ServedGraph(boast(make_lively(SMALL), contrast=1))
    with pytest.raises(Unfaithful, match=r"looks 22 px far, its halo is 20 px, .* from the whole by up to \d+/255"):
        find_promise(model.SerializeToString(), served, core=128)


def test_a_network_that_does_not_know_its_grid_is_not_exported(exact: Export) -> None:
    network = make_lively(SMALL)
    network.grid = 2
    with pytest.raises(Unfaithful, match="a grid of 2 px, its graph has 24 px on a grid of 4 px"):
        find_promise(exact.files["model.onnx"], ServedGraph(network), core=128)


def test_a_graph_that_cannot_be_analysed_is_not_exported(exact: Export) -> None:
    graph = exact.files["model.onnx"].replace(b"Relu", b"Rulu")
    with pytest.raises(Unfaithful, match="nothing can be promised of the exported graph: it has Rulu"):
        find_promise(graph, ServedGraph(make_lively(SMALL)), core=128)


def test_a_contract_that_contradicts_itself_is_refused(exact: Export) -> None:
    with pytest.raises(ValidationError, match="looks 25 px far, its halo is 24 px"):
        change(exact, reach=25)
    with pytest.raises(ValidationError, match="has a measured bound"):
        change(exact, bound=1)


# What a worker looks at, before anybody may use the version.


def test_an_honest_contract_passes(exact: Export, untileable: Export, tolerant: Export) -> None:
    for export in (exact, untileable, tolerant):
        check_contract(export.files["model.onnx"], export.contract)


def test_a_contract_from_before_the_reach_was_computed_passes(exact: Export) -> None:
    check_contract(exact.files["model.onnx"], change(exact, reach=None, bytes_per_pixel=None))


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        ("exact", {"halo": 20, "reach": None}, "a halo of 20 px on a grid of 4 px, the graph has 24 px"),
        ("exact", {"halo": 24, "grid": 2}, "a halo of 24 px on a grid of 2 px, the graph has 24 px on a grid of 4 px"),
        ("tolerant", {"exactness": "exact", "bound": None, "reach": None}, "says exact .* the graph looks 22 px far"),
        ("exact", {"reach": 21}, "says a reach of 21 px, but the graph looks 22 px far"),
        ("exact", {"bytes_per_pixel": 1}, r"says 1 bytes per pixel, but the graph needs \d+"),
        ("untileable", {"reach": 9}, "says a reach of 9 px, but the graph looks as far as the tile goes"),
        ("tolerant", {"bound": 3}, "a measured bound of at most 2/255, this one has 3/255"),
        ("tolerant", {"bound": None}, "a measured bound of at most 2/255, this one has none"),
        ("untileable", {"exactness": "exact"}, "says exact, but .* as a whole through InstanceNormalization"),
        ("untileable", {"exactness": "tolerant", "bound": 1}, "says tolerant, but .* through InstanceNormalization"),
    ],
)
def test_a_contract_that_promises_more_than_its_graph_holds_is_refused(
    request: pytest.FixtureRequest, name: str, changes: dict[str, Any], told: str
) -> None:
    export: Export = request.getfixturevalue(name)
    with pytest.raises(Rejected, match=f"{told}.*{MEND}"):
        check_contract(export.files["model.onnx"], change(export, **changes))


def test_a_tolerant_version_from_before_bounds_were_measured_can_still_be_read(tolerant: Export) -> None:
    stored = {**tolerant.contract.model_dump(mode="json"), "bound": None}
    assert TilingContract.model_validate(stored).exactness is Exactness.TOLERANT


def test_what_cannot_be_analysed_may_only_be_untileable(exact: Export) -> None:
    graph = exact.files["model.onnx"].replace(b"Relu", b"Rulu")
    with pytest.raises(Rejected, match=r"says exact, which nobody can tell of this graph: it has Rulu"):
        check_contract(graph, exact.contract)
    check_contract(graph, change(exact, exactness="untileable"))


def test_what_an_engine_is_seen_to_do_is_noted(exact: Export) -> None:
    serving = inspect(exact.contract, OnnxRuntime(exact), ENGINE)
    assert serving.model_dump() == {
        "engine": ENGINE, "mean_difference": pytest.approx(0, abs=0.01), "largest_difference": pytest.approx(0, abs=1),
        "seam": pytest.approx(0, abs=1), "beyond_halo": 0,
    }  # fmt: skip


def test_an_untileable_model_has_no_seams_to_measure(untileable: Export) -> None:
    serving = inspect(untileable.contract, OnnxRuntime(untileable), {})
    assert (serving.engine, serving.seam, serving.beyond_halo) == (None, None, None)
    assert serving.largest_difference <= 1


def test_the_difference_from_torch_is_measured(exact: Export) -> None:
    known = exact.contract.known_answer
    shifted = known.model_copy(update={"answer": (np.array(known.answer) - 2).tolist()})
    contract = exact.contract.model_copy(update={"known_answer": shifted})
    serving = inspect(contract, OnnxRuntime(exact), {})
    assert serving.mean_difference == pytest.approx(2, abs=0.01)
    assert serving.largest_difference in (2, 3)


def alone(tiles: Pixels, views: int) -> None:
    """An engine of before: a tile a request."""
    if len(tiles) > 1:
        raise Refused("unexpected shape for input 'IMAGE'")


def first(tiles: Pixels, views: int) -> tuple[Pixels, int]:
    return tiles[:1], views


def one_view(tiles: Pixels, views: int) -> tuple[Pixels, int]:
    return tiles, 1


def mixed(tiles: Pixels, views: int) -> tuple[Pixels, int]:
    return tiles[::-1], views


@pytest.mark.parametrize(
    ("slip", "told"),
    [
        (alone, "protocol 2, but unexpected shape"),
        (first, "protocol 2, but 2 tiles are answered by"),
        (one_view, r"four views from the mean over the flips by \d+/255"),
        (mixed, r"two tiles of one request differ from each alone by \d+/255"),
    ],
)
def test_an_engine_that_does_not_speak_the_protocol_of_the_contract_is_refused(
    exact: Export, slip: Callable[[Pixels, int], tuple[Pixels, int] | None], told: str
) -> None:
    honest = OnnxRuntime(exact)

    def predict(tiles: Pixels, views: int = 1) -> Pixels:
        return honest(*(slip(tiles, views) or (tiles, views)))

    with pytest.raises(Rejected, match=f"{told}.*{MEND}"):
        inspect(exact.contract, predict, {})


def test_an_engine_of_before_need_not_speak_it(exact: Export) -> None:
    honest = OnnxRuntime(exact)

    def predict(tiles: Pixels, views: int = 1) -> Pixels:
        alone(tiles, views)
        return honest(tiles)

    assert inspect(change(exact, protocol=1), predict, {}).largest_difference <= 1


def test_an_engine_whose_tiles_show_seams_is_refused(exact: Export) -> None:
    with pytest.raises(Rejected, match=r"four that make it up by (9|10|11)/255, where 3/255 is allowed"):
        inspect(exact.contract, OnnxRuntime(exact, haste=10), {})


def test_an_engine_that_sees_beyond_the_halo_is_refused(exact: Export) -> None:
    def predict(tiles: Pixels, views: int = 1) -> Pixels:
        """A tile's sides as they should be, but its first pixel tells on all others of a small tile."""
        answer = honest(tiles, views)
        return answer + tiles[0, 0, 0, 0] // 2 if tiles.shape[1] == 3 * 4 + 2 * 24 else answer

    honest = OnnxRuntime(exact)
    with pytest.raises(Rejected, match=r"pixels more than 24 px away change an answer by \d+/255"):
        inspect(exact.contract, predict, {})


def test_a_tile_that_knows_its_place_shows_in_seam_and_probe() -> None:
    def mean(tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A network that answers the mean of its tile everywhere."""
        return np.full((1, len(tile) - 8, len(tile) - 8), tile.mean(), np.uint8)

    question = known_question(2 * (16 + 4), 1, 0)
    quarters = [
        question[rows, columns].mean() for rows in (slice(24), slice(16, 40)) for columns in (slice(24), slice(16, 40))
    ]
    expected = max(abs(int(part) - int(question.mean())) for part in quarters)
    assert measure_seam(mean, core=16, halo=4, channels=1, seed=0) == expected > 0
    assert measure_beyond_halo(mean, grid=16, halo=4, channels=1, seed=0) > 0
