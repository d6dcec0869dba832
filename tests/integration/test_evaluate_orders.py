"""Evaluate as a job: which images take part, for which models, and what is refused."""

from uuid import uuid4

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from shared.domain import jobs, progress
from shared.domain.dispatch import Dispatcher
from shared.errors import Conflict, NotFound
from shared.schemas.evaluation import EvaluateIn
from shared.tables import Block, DatasetImage, DatasetVersion, Job, JobImage, Model, ModelVersion, Workspace
from shared.tables.jobs import Stage
from tests.dataset_jobs import order_ingest, run_ingest
from tests.rows import CONTRACT, add_model, add_version, make_dispatcher

ENDED = {"state": "done", "facts": {"tiles": 2}, "result": {"skipped_tiles": 0, "objects": {"count": 10}}}
FILES = ["small-a.png", "b.png", "small-c.png", "masks/small-a.png", "masks/b.png"]


@pytest.fixture
def masked(session: Session, dispatcher: Dispatcher, workspace: Workspace) -> DatasetVersion:
    """Ingested: two images with masks, one of them large and of the split `test`, and one without."""
    version = add_version(session, workspace, FILES)
    run_ingest(session, dispatcher, order_ingest(session, dispatcher, version), FILES[:3])
    with session.begin():
        for name in ("small-a.png", "b.png"):
            of_image = DatasetImage.version_id == version.id, DatasetImage.name == name
            split = "test" if name == "b.png" else "train"
            columns = {"mask": f"masks/{name}", "mask_kind": "instances", "split": split, "group": "patient-1"}
            session.execute(update(DatasetImage).where(*of_image).values(**columns))
    return version


@pytest.fixture(autouse=True)
def nuclei(session: Session, workspace: Workspace) -> None:
    """Models to evaluate."""
    add_model(session, workspace, "nuclei")
    add_model(session, workspace, "other")


def order(session: Session, version: DatasetVersion, **how: object) -> Job:
    wanted = EvaluateIn.model_validate({"kind": "evaluate", "dataset_version": version.id, "model": "nuclei", **how})
    return jobs.submit(session, make_dispatcher(), version.workspace_id, wanted, key=uuid4().hex)


def images_of(session: Session, job: Job) -> list[JobImage]:
    with session.begin():
        return list(session.scalars(select(JobImage).where(JobImage.job_id == job.id).order_by(JobImage.ordinal)))


def test_images_with_masks_take_part_and_others_are_named(session: Session, masked: DatasetVersion) -> None:
    job = order(session, masked)
    assert [image.name for image in images_of(session, job)] == ["small-a.png", "b.png"]
    assert job.spec["left_out"] == {"images": 1, "names": ["small-c.png"]}


def test_a_row_tells_which_mask_belongs_to_the_image(session: Session, masked: DatasetVersion) -> None:
    entry = images_of(session, order(session, masked))[1].entry
    assert (entry["name"], entry["mask"]["name"], entry["mask_kind"]) == ("b.png", "masks/b.png", "instances")
    assert (entry["model"], entry["split"], entry["group"], entry["types"]) == (0, "test", "patient-1", None)
    assert entry["mask"]["key"].startswith("tests/")


def test_two_models_have_a_row_each_for_every_image(session: Session, masked: DatasetVersion) -> None:
    job = order(session, masked, compare_with="other@1")
    rows = images_of(session, job)
    assert [(image.entry["model"], image.entry["name"]) for image in rows] == [
        (0, "small-a.png"),
        (0, "b.png"),
        (1, "small-a.png"),
        (1, "b.png"),
    ]
    assert len({image.name for image in rows}) == 4, "or what is made of them would have one name"
    assert job.spec["compared"]["model"]["name"] == "other"


def test_a_bundle_holds_images_of_one_model(session: Session, masked: DatasetVersion) -> None:
    job = order(session, masked, compare_with="other")
    with session.begin():
        blocks = session.scalars(select(Block).where(Block.job_id == job.id)).all()
    assert sorted((block.stage, block.ordinal, block.spec.get("images")) for block in blocks) == [
        (Stage.BUNDLE, 0, [0]),
        (Stage.BUNDLE, 1, [2]),
        (Stage.PLAN, 0, None),
        (Stage.PLAN, 0, None),
    ]


def test_a_split_leaves_out_the_others(session: Session, masked: DatasetVersion) -> None:
    job = order(session, masked, split="test")
    assert [image.name for image in images_of(session, job)] == ["b.png"]
    assert job.spec["left_out"]["images"] == 0


def test_the_threshold_is_for_the_first_model_alone(session: Session, masked: DatasetVersion) -> None:
    spec = order(session, masked, compare_with="other", threshold=0.8).spec
    assert (spec["parameters"]["threshold"], spec["compared"]["parameters"]["threshold"]) == (0.8, 0.5)


def test_nothing_is_made_but_what_was_ordered(session: Session, masked: DatasetVersion) -> None:
    assert order(session, masked).spec["parameters"]["outputs"] == []
    assert order(session, masked, outputs=["geojson"]).spec["parameters"]["outputs"] == ["geojson"]


def test_a_version_that_nobody_looked_into_is_refused(session: Session, version: DatasetVersion) -> None:
    with pytest.raises(Conflict, match="ingest it first"):
        order(session, version)


def test_a_version_without_masks_is_refused(session: Session, ready: DatasetVersion) -> None:
    with pytest.raises(Conflict, match="no image with a mask"):
        order(session, ready)


def test_a_split_without_masks_is_refused_by_its_name(session: Session, masked: DatasetVersion) -> None:
    with pytest.raises(Conflict, match=r"no split validation: .*leave split out"):
        order(session, masked, split="validation")


def test_slides_that_are_outlined_take_no_part(session: Session, masked: DatasetVersion) -> None:
    with session.begin():
        session.execute(update(DatasetImage).where(DatasetImage.name == "b.png").values(mask_kind="geojson"))
    assert order(session, masked).spec["left_out"]["names"] == ["b.png", "small-c.png"]


def test_a_model_is_not_compared_with_itself(session: Session, masked: DatasetVersion) -> None:
    with pytest.raises(Conflict, match="same version"):
        order(session, masked, compare_with="nuclei@1")


def test_a_model_may_be_compared_with_itself_at_another_threshold(session: Session, masked: DatasetVersion) -> None:
    assert "compared" in order(session, masked, compare_with="nuclei@1", threshold=0.7).spec


def test_an_unknown_model_is_refused(session: Session, masked: DatasetVersion) -> None:
    with pytest.raises(NotFound):
        order(session, masked, compare_with="nobody")


def tell_classes(session: Session, names: list[str], of_masks: list[str]) -> None:
    """Give the model `nuclei` these classes, and the masks those."""
    with session.begin():
        nuclei = select(Model.id).where(Model.name == "nuclei").scalar_subquery()
        contract = {**CONTRACT.model_dump(mode="json"), "classes": names}
        session.execute(update(ModelVersion).where(ModelVersion.model_id == nuclei).values(contract=contract))
        session.execute(update(DatasetImage).values(mask_kind="classes", classes=of_masks))


def test_classes_that_masks_call_otherwise_are_refused(session: Session, masked: DatasetVersion) -> None:
    tell_classes(session, ["background", "tumour", "stroma"], ["background", "stroma", "tumour"])
    with pytest.raises(Conflict, match=r"class 1 is 'tumour' of nuclei.*map_classes"):
        order(session, masked)


@pytest.mark.parametrize(
    "names", [["background", "Tumour", "stroma"], ["background", "class 1", "class 2"], ["background", "cell"]]
)
def test_classes_of_the_same_names_or_of_none_are_compared(
    session: Session, masked: DatasetVersion, names: list[str]
) -> None:
    tell_classes(session, names, ["background", "tumour", "stroma"])
    assert images_of(session, order(session, masked))


def test_a_summary_counts_an_image_once_though_two_models_worked_on_it(
    session: Session, masked: DatasetVersion
) -> None:
    job = order(session, masked, compare_with="other")
    with session.begin():
        session.execute(update(JobImage).where(JobImage.job_id == job.id).values(**ENDED))
    found = progress.summarise(session, job)
    assert found is not None
    assert (found.objects, found.tiles) == (20, 4)
