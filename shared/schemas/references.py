"""How a user names what is there already, in orders and in paths."""

from typing import Annotated

from pydantic import Field

EXAMPLE_ID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"

Alias = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9._-]{0,99}$", examples=["production"])]
ModelReference = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}(@([0-9]{1,9}|[A-Za-z][A-Za-z0-9._-]{0,99}))?$",
        description="`name` for the newest ready version, `name@3` for version 3, `name@production` for an alias",
        examples=["nuclei@production"],
    ),
]
DatasetReference = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}(@[0-9]{1,9})?$",
        description="`name` for the newest version, `name@3` for version 3",
        examples=["cohort-7"],
    ),
]
