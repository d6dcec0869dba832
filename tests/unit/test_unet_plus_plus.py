"""The UNet++: its heads, and what is left of it when it is pruned."""

import pytest
import torch

from services.trainer.networks import UNetPlusPlus, build_network
from services.trainer.serving.checks import check_halo
from tests.lively_networks import make_lively
from tests.unit.test_networks import PLUS_PLUS

pytestmark = pytest.mark.usefixtures("one_thread")


def make_plus_plus() -> UNetPlusPlus:
    network = make_lively(PLUS_PLUS.model_copy(update={"widths": [4, 5, 6, 7]}))
    assert isinstance(network, UNetPlusPlus)
    return network


def test_the_answer_is_the_mean_of_the_heads() -> None:
    with torch.inference_mode():
        *heads, answer = make_plus_plus().heads(torch.rand(1, 3, 32, 32))
    assert len(heads) == 3
    torch.testing.assert_close(answer, torch.stack(heads).mean(dim=0), rtol=0, atol=0)


def test_without_deep_supervision_only_the_last_column_answers() -> None:
    network = UNetPlusPlus([4, 5, 6], channels=1, classes=2, deep_supervision=False)
    assert [head.shape for head in network.heads(torch.rand(1, 1, 8, 12))] == [(1, 2, 8, 12)]
    assert len(network.head_of_level) == 1
    check_halo(network)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_pruned_network_answers_as_that_head_did_and_holds_nothing_deeper(level: int) -> None:
    network, image = make_plus_plus(), torch.rand(1, 3, 32, 32)
    pruned = network.pruned(level)
    with torch.inference_mode():
        torch.testing.assert_close(pruned(image), network.heads(image)[level - 1], rtol=0, atol=1e-5)
    assert (pruned.grid, len(pruned.heads(image)), pruned.training) == (2**level, 1, False)
    assert sum(weight.numel() for weight in pruned.parameters()) < sum(
        weight.numel() for weight in network.parameters()
    )
    check_halo(pruned)


def test_what_is_served_is_pruned_to_the_ordered_level() -> None:
    assert build_network(PLUS_PLUS.model_copy(update={"serve_level": 1})).to_serve().grid == 2
    whole = build_network(PLUS_PLUS)
    assert whole.to_serve() is whole


@pytest.mark.parametrize(("deep", "level"), [(True, 0), (True, 4), (False, 2)])
def test_a_level_without_a_head_cannot_be_served(deep: bool, level: int) -> None:
    network = UNetPlusPlus([2, 2, 2, 2], channels=1, classes=1, deep_supervision=deep)
    with pytest.raises(ValueError, match=f"a level of 1 … 3, got {level}"):
        network.pruned(level)
