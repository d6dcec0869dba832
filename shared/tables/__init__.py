"""The rows. Every one belongs to a workspace."""

from shared.tables.artifacts import Artifact
from shared.tables.base import Base
from shared.tables.datasets import Dataset, DatasetFile, DatasetVersion
from shared.tables.jobs import Block, Job, JobImage
from shared.tables.models import Model, ModelAlias, ModelAliasMove, ModelVersion
from shared.tables.workspaces import ApiKey, Workspace

__all__ = [
    "ApiKey",
    "Artifact",
    "Base",
    "Block",
    "Dataset",
    "DatasetFile",
    "DatasetVersion",
    "Job",
    "JobImage",
    "Model",
    "ModelAlias",
    "ModelAliasMove",
    "ModelVersion",
    "Workspace",
]
