"""The folders of `models/`: whole, current and small."""

import json
from pathlib import Path

import pytest
from safetensors.numpy import load

from shared.domain.model_files import ModelFiles

ROOT = Path(__file__).resolve().parents[2]
BOXED = sorted(path.parent for path in (ROOT / "models").glob("*/contract.json"))
LARGEST = 8_000_000  # bytes in fp16


def test_the_starter_is_in_the_box() -> None:
    assert "nuclei-starter" in {folder.name for folder in BOXED}


@pytest.mark.parametrize("folder", BOXED, ids=lambda folder: folder.name)
def test_a_model_in_the_box_is_whole_and_says_what_it_learnt_from(folder: Path) -> None:
    package = ModelFiles.from_folder(folder)  # compares every file with its hash in the card
    assert set(json.loads(package.files["card.json"])["files"]) == set(package.files) - {"card.json"}
    said = {"recipe", "order", "dataset_version", "metrics", "seed", "seconds", "hardware", "code"}
    assert said <= package.card.keys()


@pytest.mark.parametrize("folder", BOXED, ids=lambda folder: folder.name)
def test_a_model_in_the_box_is_served_by_the_code_of_today(folder: Path) -> None:
    """A change of the backend needs the model exported again: the file travels with it."""
    backend = ROOT / "services" / "trainer" / "serving" / "model.py"
    assert (folder / "model.py").read_bytes() == backend.read_bytes()


@pytest.mark.parametrize("folder", BOXED, ids=lambda folder: folder.name)
def test_a_model_in_the_box_is_small(folder: Path) -> None:
    weights = load((folder / "checkpoint.safetensors").read_bytes())
    assert 2 * sum(weight.size for weight in weights.values()) <= LARGEST
