"""From checkpoints to weights."""

import torch
from safetensors.torch import save

from services.trainer.fetching import load_weights


def test_weights_are_read_in_full_precision_whatever_they_were_stored_in() -> None:
    values, steps = torch.tensor([0.5, -2.0]), torch.tensor(7)
    stored = {"half": values.half(), "brain": values.bfloat16(), "double": values.double(), "steps": steps}
    weights = load_weights(save(stored))
    assert {name: weight.dtype for name, weight in weights.items()} == {
        "half": torch.float32,
        "brain": torch.float32,
        "double": torch.float32,
        "steps": torch.int64,
    }
    assert all(torch.equal(weights[name], values) for name in ("half", "brain", "double"))
    assert torch.equal(weights["steps"], steps)
