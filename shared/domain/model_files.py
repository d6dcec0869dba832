"""A model as files: what an export makes, read back and found whole."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import TypeAdapter, ValidationError

from shared.errors import Invalid
from shared.schemas.contracts import Precision, TilingContract
from shared.schemas.datasets import Name
from shared.tables.base import Json

GRAPH, CONFIG, CONTRACT, CARD = "model.onnx", "config.json", "contract.json", "card.json"
NEEDED = (GRAPH, "model.py", CONFIG, CONTRACT, CARD, "checkpoint.safetensors")
LOCALISER = "localiser.onnx"  # of networks that are also shown a warp of the whole image
QUANTISED = "model-int8.onnx"  # of models that may be computed in int8; in and out as the graph

MEND = "fetch the folder again, or export the model anew"


@dataclass(frozen=True)
class ModelFiles:
    """The files of a model version, checked as far as they vouch for each other, and the name they go by."""

    name: str
    files: Mapping[str, bytes]  # as the model server and a further training want them
    contract: Json
    card: Json

    @classmethod
    def from_folder(cls, folder: Path, *, name: str | None = None) -> Self:
        """The model in a folder; its name is the folder's unless one is given. Other files in it are left alone.

        Raises Invalid, naming the file and the mend, if one is missing or damaged.
        """
        if not folder.is_dir():
            raise Invalid(f"{folder} is no folder; an exported model is one, with {', '.join(NEEDED)}")
        found = [file for file in (*NEEDED, LOCALISER, QUANTISED) if (folder / file).is_file()]
        return cls.of(name or folder.resolve().name, {file: (folder / file).read_bytes() for file in found})

    @classmethod
    def of(cls, name: str, files: Mapping[str, bytes]) -> Self:
        """The model that these files make. Raises Invalid as `from_folder` does."""
        _check_name(name)
        _check_present(name, files, NEEDED)
        config, contract, card = (_parse(name, file, files[file]) for file in (CONFIG, CONTRACT, CARD))
        promised = _read_contract(name, contract)
        if promised.warp is not None:
            _check_present(name, files, (LOCALISER,))
        if promised.precision is Precision.INT8:
            _check_present(name, files, (QUANTISED,))
        for file, announced in _announced(config, card).items():
            if file in files and hashlib.sha256(files[file]).hexdigest() != announced:
                raise Invalid(f"model {name!r}: {file} does not have the sha256 that was noted at its export; {MEND}")
        return cls(name, dict(files), contract, card)

    @property
    def digest(self) -> str:
        """sha256 of the graph, hex."""
        return self.hashes[GRAPH]

    @property
    def hashes(self) -> dict[str, str]:
        """Name → sha256, hex."""
        return {file: hashlib.sha256(body).hexdigest() for file, body in self.files.items()}


def _check_name(name: str) -> None:
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        raise Invalid(f"{name!r} is no name for a model: letters, digits and . _ - only; give another") from error


def _check_present(name: str, files: Mapping[str, bytes], needed: Sequence[str]) -> None:
    missing = [file for file in needed if not files.get(file)]
    if missing:
        raise Invalid(f"model {name!r}: {', '.join(missing)} missing or empty; {MEND}")


def _parse(name: str, file: str, body: bytes) -> Json:
    try:
        content = json.loads(body)
    except ValueError as error:  # also bytes that are no text
        raise Invalid(f"model {name!r}: {file} is no JSON ({error}); {MEND}") from error
    if not isinstance(content, dict):
        raise Invalid(f"model {name!r}: {file} holds no JSON object; {MEND}")
    return content


def _read_contract(name: str, contract: Json) -> TilingContract:
    try:
        return TilingContract.model_validate(contract)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "it"
        raise Invalid(f"model {name!r}: {CONTRACT} is no tiling contract ({where}: {fault['msg']}); {MEND}") from error


def _announced(config: Json, card: Json) -> dict[str, str]:
    """File → sha256, as the export noted it: of the graph in the configuration, of any file in the card's `files`."""
    listed = card.get("files")
    announced = {str(file): str(digest) for file, digest in listed.items()} if isinstance(listed, dict) else {}
    try:
        announced[GRAPH] = str(config["parameters"]["digest"]["string_value"])
    except (KeyError, TypeError):  # a configuration by another hand; the known answer will tell
        return announced
    return announced
