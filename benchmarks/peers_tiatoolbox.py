"""How fast is a peer for slides, TIAToolbox's semantic segmentor, with the same weights on the same kind of picture?

    python -m benchmarks.peers_tiatoolbox --python VENV/bin/python [--size 2048] [--patch 1024] [--stride 768]

It wants torchvision, which our environment must not hold, and pins packages of its own; so it has an environment to
itself, made with Python 3.11 or later (2.5 GB, no CUDA):

    python -m venv VENV
    VENV/bin/pip install torch==2.13.0 torchvision==0.28.0      # a build of torch for the CPU
    VENV/bin/pip install --no-deps tiatoolbox==2.1.3            # it asks for torch < 2.13
    VENV/bin/pip install -r NEEDS.txt                           # what `pip show tiatoolbox` says it requires, but for
                                                                # torch, torchvision, jupyterlab and sphinx; and psutil

It predicts in fp32 with torch, as its documentation shows it: patches that overlap by a quarter and are averaged, no
tissue mask, probabilities kept. The last line of stdout is one JSON object.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from benchmarks.images import load_source, save_picture, take_picture
from benchmarks.inference import DATA
from benchmarks.machine import describe_machine
from benchmarks.networks import make_network
from services.trainer.networks import UNet
from services.trainer.networks.inputs import as_input

PROGRAM = Path(__file__).with_name("peers_tiatoolbox_program.py")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _parse(arguments)
    machine = describe_machine()
    name, source = load_source(options.data)
    with TemporaryDirectory(prefix="overtile-bench-") as folder:
        network, slide = Path(folder) / "network.pt", Path(folder) / "slide"
        save_script(make_network(options.widths, source), network, patch=options.patch)
        slide = save_picture(take_picture(source, options.size, 1), slide, "tiff")
        command = [options.python, PROGRAM, network, slide, options.patch, options.stride]
        ended = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, check=True)
    said = json.loads(ended.stdout.splitlines()[-1])
    report = {
        "tiatoolbox_mpx_s": round(options.size**2 / said["seconds"] / 1e6, 4),
        "seconds": round(said["seconds"], 2),
        "size_px": options.size,
        "patch_px": options.patch,
        "stride_px": options.stride,
        "picture": name,
        "versions": said["versions"],
        "machine": machine,
    }
    print(json.dumps(report, ensure_ascii=False), flush=True)


def save_script(network: UNet, path: Path, *, patch: int) -> None:
    """The network as TorchScript, from uint8 (N, patch, patch, 3) to probabilities (N, patch, patch, 2)."""
    example = torch.zeros((1, patch, patch, 3), dtype=torch.uint8)
    with torch.inference_mode():
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            _Probabilities(network).eval(), example, check_trace=False
        )
        traced.save(path)


class _Probabilities(nn.Module):
    """Of background and foreground: the peer takes the larger of them."""

    def __init__(self, network: UNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        foreground = torch.sigmoid(self.network(as_input(images)))
        return torch.cat([1 - foreground, foreground], dim=1).permute(0, 2, 3, 1)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers_tiatoolbox", description=__doc__.splitlines()[0])
    parser.add_argument("--python", type=Path, default=sys.executable, help="of the peer's environment")
    parser.add_argument("--size", type=int, default=2048, help="side of the picture, px")
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128, 256, 512, 1024], help="of the UNet")
    parser.add_argument("--patch", type=int, default=1024, help="side of what the network sees at once, px")
    parser.add_argument("--stride", type=int, default=768, help="from one patch to the next, px")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with real slides; without it, one is drawn")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
