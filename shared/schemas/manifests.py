"""Wire shapes of a manifest: the images of a dataset version as ingest found them."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

# Codes of problems that may be gone another time: a version that has one can be ingested again.
FILE_MISSING, NOT_EXAMINED = "file_missing", "not_examined"


class Problem(BaseModel):
    """A finding about an image. An error keeps the image out of the dataset, a warning does not."""

    model_config = ConfigDict(frozen=True)

    code: str = Field(description="kind of the finding, such as mask_missing")
    severity: Literal["error", "warning"]
    text: str = Field(description="names the file, the reason and the mend")
