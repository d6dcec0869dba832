"""The levels of a probability map that no block owns, from the coarsest ones that blocks do."""

from services.worker.context import Context
from services.worker.stages.facts import probability_map
from services.worker.stages.plan import probability_artifact
from services.worker.stages.shards import Shards
from services.worker.stages.subject import Subject
from shared.domain.blocks import NewArtifact


def write_coarse_levels(context: Context, subject: Subject, shards: Shards) -> list[NewArtifact]:
    """Where nothing was predicted they show 0."""
    levels = probability_map(subject.model.contract, subject.facts)
    coarse, objects = levels.coarse(), dict[str, bytes]()
    if coarse.source == levels.levels - 1:
        return []
    for block in subject.facts.blocks():
        pixels = shards.read_level(block, coarse.source)
        if pixels is not None:
            objects |= coarse.add(block, pixels)
    objects |= coarse.finish()
    return [probability_artifact(context, subject.image, key, body) for key, body in sorted(objects.items())]
