"""Exports a stored model anew from its own checkpoint, when the graph, the contract or the server's code have changed.

    python -m benchmarks.reexport [models/nuclei-starter] [--learnt-from ../shared/data/dsb2018/train/images]

The weights and what the card says of the training stay; recommended threshold and closing, too; and what the images
look like that it learnt from, unless a folder with these images is named: then they are looked at. Nothing is written
if the new graph answers differently. The last line of stdout is one JSON object: how far the answers to a drawn picture
lie apart, in steps of 1/255.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import onnxruntime
import safetensors.torch
from numpy.typing import NDArray
from pydantic import TypeAdapter

from services.trainer.export import Export, Serving, export_model
from services.trainer.networks import build_network
from shared.imaging.drawing import draw_nuclei
from shared.imaging.familiarity import find_familiar
from shared.imaging.quality import Features, measure_features
from shared.imaging.tiling import Pixels
from shared.schemas.contracts import TilingContract
from shared.schemas.quality import ImageStatistics
from shared.schemas.training import NetworkIn
from shared.slides import open_slide

STARTER = Path(__file__).resolve().parents[1] / "models" / "nuclei-starter"
SIDE = 832  # px of the picture; on every grid up to 64
ALLOWED = 1  # steps of 1/255: the order of sums


def main(arguments: Sequence[str] | None = None) -> None:
    """Export, compare, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reexport", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=STARTER, help="of the stored model")
    parser.add_argument("--learnt-from", type=Path, help="folder of the images that the model learnt from, no others")
    asked = parser.parse_args(arguments)
    folder: Path = asked.folder
    export = export_anew(folder, familiar=look_at(asked.learnt_from) if asked.learnt_from else None)
    before, after = ((folder / "model.onnx").read_bytes(), export.files["model.onnx"])
    difference = compare(before, after, channels=export.contract.tile_channels)
    if difference > ALLOWED:
        raise SystemExit(f"the new graph differs by {difference}/255 from the old one: nothing was written")
    for name, body in export.files.items():
        (folder / name).write_bytes(body)
    print(json.dumps({"model": folder.name, "digest": export.digest, "difference": difference}), flush=True)


def look_at(folder: Path) -> ImageStatistics:
    """What the images of a folder look like."""
    found = find_familiar([_measure(path) for path in sorted(folder.iterdir())])
    if found is None:
        raise SystemExit(f"{folder}: too few images to say what is usual")
    return ImageStatistics.model_validate(asdict(found))


def _measure(path: Path) -> Features:
    with open_slide(path, name=path.name) as slide:
        return measure_features(slide.read, slide.height, slide.width)


def export_anew(folder: Path, *, familiar: ImageStatistics | None = None) -> Export:
    """The network of the card with the weights of the checkpoint, served as the contract says."""
    card = json.loads((folder / "card.json").read_bytes())
    card.pop("files", None)
    contract = TilingContract.model_validate_json((folder / "contract.json").read_bytes())
    network = build_network(TypeAdapter[NetworkIn](NetworkIn).validate_python(card["order"]["network"]))
    network.load_state_dict(safetensors.torch.load((folder / "checkpoint.safetensors").read_bytes()))
    asked = {field.name: getattr(contract, field.name) for field in fields(Serving)}
    asked["familiar"] = familiar or contract.familiar
    return export_model(network, card=card, classes=contract.classes, serving=Serving(**asked))


def compare(before: bytes, after: bytes, *, channels: int) -> int:
    """The largest difference of two graphs' answers to a drawn picture, steps of 1/255."""
    drawn, _ = draw_nuclei(SIDE, SIDE, seed=0, stain="histology")
    picture = np.concatenate([drawn] * -(-channels // 3), axis=2)[:, :, :channels]
    return int(np.abs(_answer(before, picture) - _answer(after, picture)).max())


def _answer(graph: bytes, picture: Pixels) -> NDArray[np.int16]:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    answer: NDArray[np.uint8] = session.run(["PROBABILITY"], {"IMAGE": picture[None]})[0]
    return answer.astype(np.int16)


if __name__ == "__main__":
    main()
