"""The tables come from the migrations, and the migrations are those of the tables."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect, text
from sqlalchemy.orm import Session

from shared import migrations
from shared.tables import Base, Job, ModelVersion, Workspace
from shared.tables.jobs import JobKind
from tests.rows import add_model


def test_the_migrations_make_exactly_the_tables_of_the_code(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_the_check_of_every_state_is_in_the_database(engine: Engine) -> None:
    checks = inspect(engine).get_check_constraints
    assert {"ck_jobs_jobstate", "ck_jobs_jobkind"} <= {str(check["name"]) for check in checks("jobs")}
    assert {"ck_blocks_blockstate", "ck_blocks_stage"} <= {str(check["name"]) for check in checks("blocks")}


def test_every_migration_can_be_taken_back_and_made_again(engine: Engine) -> None:
    migrations.downgrade(engine, "base")
    assert set(inspect(engine).get_table_names()) == {"alembic_version"}
    migrations.upgrade(engine)
    assert "blocks" in inspect(engine).get_table_names()


def test_every_table_belongs_to_workspaces() -> None:
    without = {name for name, table in Base.metadata.tables.items() if "workspace_id" not in table.columns}
    assert without == {"workspaces"}


def test_an_imported_model_outlives_the_step_back_to_tables_without_imports(
    engine: Engine, session: Session, workspace: Workspace
) -> None:
    version = add_model(session, workspace)
    row = {"spec": {}, "idempotency_key": "once", "order_digest": "d"}
    with session.begin():
        session.add(Job(id=version.id, workspace_id=workspace.id, kind=JobKind.IMPORT, **row))
        session.flush()
        session.get_one(ModelVersion, version.id).job_id = version.id
    migrations.downgrade(engine, "0001")
    with engine.connect() as connection:
        assert connection.execute(text("SELECT id, job_id FROM model_versions")).all() == [(version.id, None)]
    migrations.upgrade(engine)
