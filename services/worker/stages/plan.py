"""PLAN: look at an image, cut it into predict blocks, lay out its map."""

import math

from services.worker.context import Context
from services.worker.stages.facts import ImageFacts, probability_map
from services.worker.stages.source import look_over
from services.worker.writers.probability import CHUNK, FOLDER
from shared.domain.blocks import NewArtifact, NewBlock, Outcome
from shared.errors import Rejected
from shared.execution import Work
from shared.imaging.tiling import choose_core
from shared.schemas.contracts import Exactness, TilingContract
from shared.slides import Slide
from shared.stopwatch import Stopwatch
from shared.storage import image_key
from shared.tables import JobImage
from shared.tables.jobs import Stage


def plan(context: Context, work: Work) -> Outcome:
    """Raises Rejected for an image that cannot be read, or is too large for a model that cannot be tiled."""
    image = work.image
    clock = Stopwatch()
    with clock.step("fetch and open"):
        slide = context.staging.open(image)
    model = context.find_model(work.claim.job)
    contract = model.contract
    facts = find_facts(slide, contract, block_side=context.settings.block_side, name=image.name)
    with clock.step("look over"):
        facts = look_over(slide, facts, model, predictor=context.predictor, check=work.check)
    with clock.step("write"):
        content = probability_map(contract, facts).describe()
        artifacts = [probability_artifact(context, image, key, body) for key, body in sorted(content.items())]
    blocks = [
        NewBlock(Stage.PREDICT, ordinal, {"box": [box.top, box.left, box.bottom, box.right]})
        for ordinal, box in enumerate(facts.blocks())
    ]
    result = {"seconds": clock.seconds, "blocks": len(blocks)}
    return Outcome(result=result, blocks=blocks, artifacts=artifacts, facts=facts.model_dump(mode="json"))


def find_facts(slide: Slide, contract: TilingContract, *, block_side: int, name: str) -> ImageFacts:
    """What the later blocks must agree on. The core is the one that wastes least on an image of this size."""
    cores = [core for core in contract.cores if core <= block_side] or contract.cores[:1]
    if contract.exactness is Exactness.UNTILEABLE:
        cores = [core for core in cores if core >= max(slide.height, slide.width)]
    if not cores:
        raise Rejected(
            f"{name}: {slide.width} × {slide.height} px is more than one tile ({contract.cores[-1]} px), and the "
            "answer of this model would change from tile to tile (it normalises over what it sees); choose another"
        )
    core = choose_core(slide.height, slide.width, cores=cores, halo=contract.halo)
    unit = math.lcm(core, CHUNK)  # a block is made of whole tiles and of whole chunks
    return ImageFacts(
        format=slide.format,
        height=slide.height,
        width=slide.width,
        mpp=slide.mpp,
        window=(slide.window.low, slide.window.high) if slide.window else None,
        core=core,
        block_side=max(block_side // unit, 1) * unit,
    )


def probability_artifact(context: Context, image: JobImage, key: str, body: bytes) -> NewArtifact:
    """Store an object of the image's map."""
    stored = context.storage.put(image_key(image.job_id, image.id, f"{FOLDER}/{key}"), body)
    kind = "application/json" if key.endswith(".json") else "application/octet-stream"
    return NewArtifact("probability", f"{image.name}.{FOLDER}/{key}", kind, stored)
