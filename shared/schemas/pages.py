"""What all lists have in common."""

from pydantic import BaseModel, Field


class Page(BaseModel):
    """One page of a list."""

    next_cursor: str | None = Field(None, description="hand it back as `cursor` to go on; null at the end")
