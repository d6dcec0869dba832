"""`client.models`: the networks that can be asked for."""

from collections.abc import Iterator
from urllib.parse import quote

from overtile.pages import walk
from overtile.shapes import Model, ModelVersion, Page
from overtile.transport import Transport


class ModelsPage(Page[Model]):
    """Models with their versions."""


class Models:
    """The models of the workspace. "Model" always means a trained network."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> Iterator[Model]:
        """Every model, each with its versions, the newest first."""
        return walk(self._transport, "/v1/models", ModelsPage)

    def get(self, name: str) -> Model:
        """The model of that name. Raises NotFound."""
        return self._transport.get(f"/v1/models/{quote(name, safe='')}", Model)

    def version(self, name: str, number: int) -> ModelVersion:
        """A version by its number. Raises NotFound."""
        return self._transport.get(f"/v1/models/{quote(name, safe='')}/versions/{number}", ModelVersion)
