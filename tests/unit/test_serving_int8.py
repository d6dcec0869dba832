"""The code that runs inside Triton, with a model that may be computed in int8."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.trainer.export import Export
from shared.imaging.probes import known_question, measure_seam
from tests.int8_exports import export_in_int8
from tests.unit import test_serving as serving

backend = serving.backend

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("one_thread")]  # each export takes some seconds


@pytest.fixture(scope="module")
def export() -> Export:
    return export_in_int8()


@pytest.fixture
def able(backend: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The backend on a processor with everything."""
    monkeypatch.setattr(backend, "has_one_of", lambda *features: True)
    return backend


def precision_of(model: Any) -> str:
    (text,) = serving.ask(model, known_question(64, 1, 0)[None], outputs=("ENGINE",))
    return str(json.loads(text)["precision"])


@pytest.mark.parametrize(("feature", "expected"), [("amx_int8", "int8"), ("avx512_vnni", "int8"), ("avx2", "f32")])
def test_int8_is_taken_where_the_processor_computes_in_it(
    backend: Any, export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, feature: str, expected: str
) -> None:
    monkeypatch.setattr(backend, "has_one_of", lambda *features: feature in features)
    assert precision_of(serving.load(backend, export, tmp_path, precision="int8")) == expected


def test_the_other_engine_computes_the_other_graph(able: Any, export: Export, tmp_path: Path) -> None:
    assert precision_of(serving.load(able, export, tmp_path, precision="int8", engine="onnxruntime")) == "f32"


@pytest.mark.parametrize("views", [1, 8])
def test_a_model_in_int8_answers_nearly_as_in_single_precision(
    able: Any, export: Export, tmp_path: Path, views: int
) -> None:
    tiles = serving.questions_for(export, rows=5, columns=9, number=2)
    answers = []
    for precision in ("f32", "int8"):
        (folder := tmp_path / precision).mkdir()
        model = serving.load(able, export, folder, precision=precision)
        answers.append(serving.ask(model, tiles, views=views).astype(int))
    assert 0 < np.abs(answers[1] - answers[0]).mean() < 3


def test_a_model_in_int8_is_seamless(able: Any, export: Export, tmp_path: Path) -> None:
    model = serving.load(able, export, tmp_path, precision="int8")
    where = {"halo": export.contract.halo, "channels": 1, "seed": 0}
    assert measure_seam(lambda tile: serving.ask(model, tile[None])[0], core=32, **where) <= 1
