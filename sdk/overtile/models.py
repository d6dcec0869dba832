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
        """Every model, each with its versions and aliases, the newest first."""
        return walk(self._transport, "/v1/models", ModelsPage)

    def get(self, name: str) -> Model:
        """The model of that name. Raises NotFound."""
        return self._transport.get(_path(name), Model)

    def version(self, name: str, number: int) -> ModelVersion:
        """A version by its number. Raises NotFound."""
        return self._transport.get(f"{_path(name)}/versions/{number}", ModelVersion)

    def promote(self, name: str, number: int, *, alias: str) -> Model:
        """Lets `alias` stand for that version, so that `name@alias` in an order means it from now on.

        Jobs that were ordered before keep the version they got. Raises Conflict if the version is not ready.
        """
        return self._transport.replace(_alias_path(name, alias), Model, body={"version": number})

    def rollback(self, name: str, *, alias: str) -> Model:
        """Lets `alias` stand for the version it stood for before; again, for the one before that.

        Not repeated by itself after a lost answer: look at `get(name).aliases` then. Raises Conflict at the first one.
        """
        return self._transport.post(f"{_alias_path(name, alias)}:rollback", Model)

    def remove_alias(self, name: str, alias: str) -> Model:
        """Forgets the alias; the versions stay."""
        return self._transport.delete(_alias_path(name, alias), Model)


def _path(name: str) -> str:
    return f"/v1/models/{quote(name, safe='')}"


def _alias_path(name: str, alias: str) -> str:
    return f"{_path(name)}/aliases/{quote(alias, safe='')}"
