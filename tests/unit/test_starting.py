"""What a training begins with: the weights of another one."""

import copy

import pytest
import torch

from services.trainer.networks import build_network
from services.trainer.starting import begin_with
from services.trainer.train import Start
from shared.errors import Rejected
from tests.small_trainings import NETWORK, make_order, train_quietly

pytestmark = pytest.mark.usefixtures("one_thread")


def test_fine_tuning_begins_with_the_given_weights_and_a_frozen_encoder_keeps_them() -> None:
    first = train_quietly(make_order()).network.state_dict()
    order = make_order(start={"model": "nuclei@1", "freeze_encoder": True}, seed=3)
    tuned = train_quietly(order, start=Start(weights=copy.deepcopy(first))).network.state_dict()
    encoder = [name for name in first if name.startswith("encoder")]
    assert encoder
    assert all(torch.equal(first[name], tuned[name]) for name in encoder)
    assert not torch.equal(first["head.weight"], tuned["head.weight"])


def test_weights_of_another_network_are_refused_with_the_first_that_does_not_fit() -> None:
    network = build_network(make_order().network)
    wider = build_network(make_order(network=NETWORK | {"widths": [6, 8]}).network).state_dict()
    with pytest.raises(Rejected, match="order the same widths and channels"):
        begin_with(network, wider, freeze_encoder=False)
    with pytest.raises(Rejected, match="another kind of network"):
        begin_with(network, {}, freeze_encoder=False)


def test_a_head_for_other_classes_begins_anew() -> None:
    network = build_network(make_order(network=NETWORK | {"classes": 3}, masks={"kind": "classes"}).network)
    other = build_network(make_order().network).state_dict()
    begin_with(network, other, freeze_encoder=False)
    assert torch.equal(network.state_dict()["encoder.0.layers.0.weight"], other["encoder.0.layers.0.weight"])
