"""/v1/recipes"""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from services.api.dependencies import CallerDep
from shared.schemas.pages import Page
from shared.schemas.recipes import RECIPES

router = APIRouter(prefix="/v1/recipes", tags=["recipes"])


class RecipeOut(BaseModel):
    """A named training configuration; a train order names it and overrides it field by field."""

    name: str
    title: str = Field(description="a line for the one who chooses")
    source: str = Field(description="whose configuration it is")
    fields: dict[str, Any] = Field(description="what it fills a train order with")
    small: dict[str, Any] = Field(description="laid over `fields` by `small: true`, for machines without a GPU")


class RecipesPage(Page):
    """By name; always all of them."""

    items: list[RecipeOut]


@router.get("")
def list_recipes(_: CallerDep) -> RecipesPage:
    """The recipes that a train order can name."""
    items = [
        RecipeOut(
            name=name, title=recipe.title, source=recipe.source, fields=dict(recipe.fields), small=dict(recipe.small)
        )
        for name, recipe in sorted(RECIPES.items())
    ]
    return RecipesPage(items=items)
