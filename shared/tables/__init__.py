"""The rows. Every one belongs to a workspace."""

from shared.tables.artifacts import Artifact
from shared.tables.base import Base
from shared.tables.datasets import Dataset, DatasetFile, DatasetImage, DatasetVersion
from shared.tables.jobs import Block, Job, JobImage
from shared.tables.models import Model, ModelAlias, ModelAliasMove, ModelVersion
from shared.tables.objects import Source, StoredObject, Upload
from shared.tables.workspaces import ApiKey, Workspace

__all__ = [
    "ApiKey",
    "Artifact",
    "Base",
    "Block",
    "Dataset",
    "DatasetFile",
    "DatasetImage",
    "DatasetVersion",
    "Job",
    "JobImage",
    "Model",
    "ModelAlias",
    "ModelAliasMove",
    "ModelVersion",
    "Source",
    "StoredObject",
    "Upload",
    "Workspace",
]
