"""PLAN: look at an image, cut it into predict blocks, lay out its map."""

import math
from collections.abc import Sequence

from services.worker.context import Context
from services.worker.settings import WorkerSettings
from services.worker.stages.facts import ImageFacts, probability_map
from services.worker.stages.score import check_truth
from services.worker.stages.source import Check, look_over
from services.worker.stages.views import find_frame
from services.worker.writers.probability import CHUNK, FOLDER
from shared.domain.blocks import NewArtifact, NewBlock, Outcome
from shared.errors import Rejected
from shared.execution import Work
from shared.imaging.steps.views import Frame
from shared.imaging.tiling import Box, choose_core, plan_tiles
from shared.imaging.tissue import encode_tiles, find_signal, find_tissue, overview_side, tiles_with_tissue
from shared.schemas.contracts import Exactness, TilingContract
from shared.schemas.jobs import SegmentParameters
from shared.slides import Slide
from shared.slides.windows import store
from shared.stopwatch import Stopwatch
from shared.storage import image_key
from shared.tables import JobImage
from shared.tables.jobs import Stage

LARGE = 4  # blocks; in an image of more, tissue is looked for: in a smaller one that takes longer than it saves


def plan(context: Context, work: Work) -> Outcome:
    """Raises Rejected for an image that cannot be read, or is too large for a model that cannot be tiled."""
    image = work.image
    clock = Stopwatch()
    with clock.step("fetch and open"):
        slide = context.staging.open(image)
    model = context.find_model(work.claim.job, work.image)
    contract = model.contract
    facts = find_facts(slide, contract, context.settings, name=image.name)
    with clock.step("look at the mask"):
        check_truth(context, image, height=slide.height, width=slide.width)
    with clock.step("look for tissue"):
        wish = SegmentParameters.of(work.claim.job.spec, work.image.entry).empty_tiles
        facts = skip_empty_tiles(slide, facts, wish, check=work.check)
    with clock.step("look over"):
        facts = look_over(slide, facts, model, predictor=context.predictor, check=work.check)
    with clock.step("write"):
        artifacts: list[NewArtifact] = []
        if "ome_zarr" in SegmentParameters.of(work.claim.job.spec, image.entry).outputs:
            content = probability_map(contract, facts).describe()
            artifacts = [probability_artifact(context, image, key, body) for key, body in sorted(content.items())]
    blocks = plan_blocks(facts, halo=contract.halo)
    result = {"seconds": clock.seconds, "blocks": len(blocks), "tiles": facts.tiles, "skipped": facts.skipped}
    return Outcome(result=result, blocks=blocks, artifacts=artifacts, facts=facts.model_dump(mode="json"))


def find_facts(slide: Slide, contract: TilingContract, settings: WorkerSettings, *, name: str) -> ImageFacts:
    """What the later blocks must agree on. Raises Rejected for two tiles of a model whose tiles do not fit together."""
    frame, cores = find_frame(slide, contract.steps, name=name), find_cores(contract, settings)
    if contract.exactness is Exactness.UNTILEABLE:
        covering = find_covering(cores, frame)
        if not covering:
            raise Rejected(
                f"{name}: {frame.width} × {frame.height} px is more than one tile ({cores[-1]} px), and the answer of "
                "this model would change from tile to tile (it normalises over what it sees); choose another"
            )
        cores = covering
    return lay_out(slide, frame, contract, settings, cores)


def lay_out(
    slide: Slide, frame: Frame, contract: TilingContract, settings: WorkerSettings, cores: Sequence[int]
) -> ImageFacts:
    """The facts of an image that is cut into tiles of that one of the cores which wastes least.

    `frame`: what the contract's steps make of the slide.
    """
    is_resized = (frame.height, frame.width) != (slide.height, slide.width)
    core = choose_core(frame.height, frame.width, cores=cores, halo=contract.halo)
    unit = math.lcm(core, CHUNK)  # a block is made of whole tiles and of whole chunks
    tiles = math.ceil(frame.height / core) * math.ceil(frame.width / core)
    seen = tiles * (core + 2 * contract.halo) ** 2
    return ImageFacts(
        format=slide.format,
        height=frame.height,
        width=frame.width,
        mpp=frame.mpp,
        window=store(slide.window),
        core=core,
        block_side=max(settings.block_side // unit, 1) * unit,
        tiles=tiles,
        redundancy=round(1 - frame.height * frame.width / seen, 3),
        own=(slide.height, slide.width) if is_resized else None,
        own_mpp=slide.mpp if is_resized else None,
    )


def find_covering(cores: Sequence[int], frame: Frame) -> Sequence[int]:
    """Those cores that hold the whole image."""
    return [core for core in cores if core >= max(frame.height, frame.width)]


def find_cores(contract: TilingContract, settings: WorkerSettings) -> Sequence[int]:
    """Sides that a tile's core may have: no more than a block's, nor than the engine has memory for; one at least."""

    def fits(core: int) -> bool:
        needed = (contract.bytes_per_pixel or 0) * (core + 2 * contract.halo) ** 2
        return core <= settings.block_side and needed <= settings.engine_bytes

    return [core for core in contract.cores if fits(core)] or contract.cores[:1]


def skip_empty_tiles(slide: Slide, facts: ImageFacts, wish: str, *, check: Check) -> ImageFacts:
    """The facts with the tiles that hold tissue, if the image is large and others may be left out (`wish`)."""
    if wish == "predict" or facts.height * facts.width <= LARGE * facts.block_side**2:
        return facts
    overview = slide.overview(overview_side(slide.height, slide.width), check)
    tissue = find_tissue(overview)
    if tissue is None and wish == "skip":
        tissue = find_signal(overview)
    if tissue is None:
        return facts
    tiles = plan_tiles(Box(0, 0, facts.height, facts.width), core=facts.core, halo=0)
    wanted = tiles_with_tissue(tissue, [facts.find_own(tile.write) for tile in tiles], *facts.size)
    skipped = int(wanted.size - wanted.sum())
    return facts.model_copy(update={"tissue": encode_tiles(wanted), "skipped": skipped})


def plan_blocks(facts: ImageFacts, *, halo: int) -> list[NewBlock]:
    """The blocks that hold something to predict. Where nothing does, it goes on at once."""
    predicted = [
        NewBlock(Stage.PREDICT, ordinal, {"box": [box.top, box.left, box.bottom, box.right]})
        for ordinal, box in enumerate(facts.blocks())
        if facts.find_tiles(box, halo=halo)
    ]
    return predicted or [NewBlock(Stage.DIVIDE, 0, {})]


def probability_artifact(context: Context, image: JobImage, key: str, body: bytes) -> NewArtifact:
    """Store an object of the image's map."""
    stored = context.storage.put(image_key(image.job_id, image.id, f"{FOLDER}/{key}"), body)
    kind = "application/json" if key.endswith(".json") else "application/octet-stream"
    return NewArtifact("probability", f"{image.name}.{FOLDER}/{key}", kind, stored)
