"""How wrong an answer is, as one number to make small."""

from torch import Tensor
from torch.nn import functional


def pixel_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Mean cross-entropy per pixel, of logits (N, planes, H, W) and class indices (N, H, W): a scalar, 0 or more.

    One plane: binary cross-entropy with the logits. More: softmax cross-entropy.
    """
    logits = logits.float()  # bf16 has too few digits for a mean over many pixels
    if logits.shape[1] == 1:
        return functional.binary_cross_entropy_with_logits(logits[:, 0], masks.float())
    return functional.cross_entropy(logits, masks.long())
