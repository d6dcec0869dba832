"""`client.recipes`: named training configurations."""

from collections.abc import Iterator

from overtile.pages import walk
from overtile.shapes import Page, Recipe
from overtile.transport import Transport


class RecipesPage(Page[Recipe]):
    """Recipes by name."""


class Recipes:
    """The recipes that `client.jobs.submit(kind="train", recipe=…)` can name."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> Iterator[Recipe]:
        """Every recipe of the platform."""
        return walk(self._transport, "/v1/recipes", RecipesPage)
