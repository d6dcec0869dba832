"""A registered model, asked through a running platform as any user would."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from overtile import Client


class RegisteredModel:
    """`name`, `name@3` or `name@production` on the platform that OVERTILE_URL and OVERTILE_API_KEY point to."""

    def __init__(self, reference: str) -> None:
        self._reference = reference
        self._spec: dict[str, Any] = {}

    def describe(self) -> dict[str, Any]:
        """What the platform took the name for."""
        return {"registered": self._spec.get("model"), **self._spec.get("parameters", {})}

    def predict(self, images: Sequence[tuple[str, Path]]) -> Iterator[NDArray[np.bool_]]:
        """The foreground (H, W) of each image, by one job."""
        with Client() as client, TemporaryDirectory(prefix="overtile-accuracy-") as folder:
            files = {f"images/{name}": path for name, path in images}
            version = client.datasets.upload(files, name="benchmark-accuracy")
            job = client.jobs.wait(
                client.jobs.submit(kind="segment", dataset_version=version, model=self._reference, threshold=None)
            )
            if job.state != "succeeded":
                raise RuntimeError(f"the job ended {job.state}: {job.error}")
            self._spec = dict(job.spec)
            client.jobs.download(job, Path(folder), kinds=["mask"])
            model = self._spec["model"]
            masks = client.models.version(model["name"], model["version"]).card.get("order", {}).get("masks", {})
            for name, _ in images:
                found = tifffile.imread(Path(folder) / f"images/{name}.mask.tif") > 0
                yield ~found if masks.get("foreground") == "zero" else found
