"""A registered model, asked through a running platform as any user would."""

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tifffile
from overtile import Client
from PIL import Image

from benchmarks.stored_model import Prediction


class RegisteredModel:
    """`name`, `name@3` or `name@production` on the platform that OVERTILE_URL and OVERTILE_API_KEY point to."""

    def __init__(self, reference: str) -> None:
        self._reference = reference
        self._spec: dict[str, Any] = {}

    def describe(self) -> dict[str, Any]:
        """What the platform took the name for."""
        return {"registered": self._spec.get("model"), **self._spec.get("parameters", {})}

    def predict(self, images: Sequence[tuple[str, Path]]) -> Iterator[Prediction]:
        """What is found in each image, by one job."""
        with Client() as client, TemporaryDirectory(prefix="overtile-accuracy-") as folder:
            files = {f"images/{name}": path for name, path in images}
            version = client.datasets.upload(files, name="benchmark-accuracy")
            outputs = ["mask", "label_image"]
            job = client.jobs.wait(
                client.jobs.submit(kind="segment", dataset_version=version, model=self._reference, outputs=outputs)
            )
            if job.state != "succeeded":
                raise RuntimeError(f"the job ended {job.state}: {job.error}")
            self._spec = dict(job.spec)
            client.jobs.download(job, Path(folder), kinds=["mask", "labels"])
            model = self._spec["model"]
            masks = client.models.version(model["name"], model["version"]).card.get("order", {}).get("masks", {})
            for name, _ in images:
                found = tifffile.imread(Path(folder) / f"images/{name}.mask.tif") > 0
                labels = next(Path(folder).glob(f"images/{glob.escape(name)}.labels.*"))
                objects = np.asarray(Image.open(labels) if labels.suffix == ".png" else tifffile.imread(labels))
                yield Prediction(~found if masks.get("foreground") == "zero" else found, objects.astype(np.uint32))
