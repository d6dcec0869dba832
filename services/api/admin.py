"""`overtile-admin`: what only the administrator does, on the machine itself. Needs the services' environment."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from pydantic import ValidationError
from sqlalchemy.orm import Session

from shared import migrations
from shared.database import make_engine, make_sessions
from shared.domain import sources, workspaces
from shared.domain.dispatch import Dispatcher
from shared.domain.imports import import_model
from shared.domain.model_files import ModelFiles
from shared.errors import OvertileError
from shared.settings import Settings
from shared.storage import Storage
from shared.tables import ModelVersion
from shared.tables.models import ModelState


@click.group()
def main() -> None:
    """Administer an Overtile installation."""


@main.command()
def migrate() -> None:
    """Bring the database's tables up to date."""
    migrations.upgrade(make_engine(_load_settings()))
    click.echo("the tables are up to date")


@main.group()
def workspace() -> None:
    """Workspaces: the walls between labs."""


@workspace.command("create")
@click.argument("name")
def create_workspace(name: str) -> None:
    """Make a workspace."""
    with _session() as session:
        workspaces.create(session, name)
    click.echo(f"workspace {name} is there")


@main.group()
def key() -> None:
    """API keys."""


@key.command("issue")
@click.argument("workspace")
@click.option("--label", required=True, help="what the key is for, to find it again")
def issue_key(workspace: str, label: str) -> None:
    """Make an API key and print it. It is shown this once only."""
    with _session() as session:
        click.echo(workspaces.issue_key(session, workspaces.find(session, workspace), label=label))


@key.command("revoke")
@click.argument("workspace")
@click.option("--label", required=True, help="the label it was made with")
def revoke_key(workspace: str, label: str) -> None:
    """Close the keys of a label."""
    with _session() as session:
        closed = workspaces.revoke_key(session, workspaces.find(session, workspace), label=label)
    click.echo(f"{closed} keys closed")


@main.group()
def source() -> None:
    """Places in a lab's own buckets whose files may be registered where they lie."""


@source.command("add")
@click.option("--workspace", required=True, help="whose members may register files there")
@click.option("--name", required=True, help="what they call the place")
@click.argument("place")
def add_source(workspace: str, name: str, place: str) -> None:
    """Let a workspace register what lies below PLACE (s3://bucket/prefix/). Nothing there is ever written."""
    own = _load_settings().s3_bucket
    with _session() as session:
        made = sources.add(session, workspaces.find(session, workspace).id, name, place, own_bucket=own)
    click.echo(f"{workspace} may register what lies below s3://{made.bucket}/{made.prefix} as {name}")


@source.command("list")
@click.option("--workspace", required=True)
def list_sources(workspace: str) -> None:
    """List the places of a workspace."""
    with _session() as session:
        for row in sources.list_all(session, workspaces.find(session, workspace).id):
            click.echo(f"{row.name}\ts3://{row.bucket}/{row.prefix}")


@source.command("remove")
@click.option("--workspace", required=True)
@click.option("--name", required=True)
def remove_source(workspace: str, name: str) -> None:
    """Allow a place no longer. Versions that were registered there stay."""
    with _session() as session:
        sources.remove(session, workspaces.find(session, workspace).id, name)
    click.echo(f"{name} is allowed no longer; what was registered stays registered")


@main.group()
def model() -> None:
    """Models that were trained elsewhere."""


@model.command("import")
@click.argument("workspace")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--name", help="name to register it under; the folder's by default")
@click.option("--alias", help="alias that stands for the version once it is ready, such as production")
def import_folder(workspace: str, folder: Path, name: str | None, alias: str | None) -> None:
    """Store and register the exported model in FOLDER; a worker then loads it and makes it ready."""
    settings = _load_settings()
    with _session() as session:
        package = ModelFiles.from_folder(folder, name=name)
        owner, dispatcher = workspaces.find(session, workspace), Dispatcher.from_settings(settings)
        version = import_model(session, Storage(settings), dispatcher, owner.id, package, alias=alias)
    click.echo(f"{package.name}@{version.number} is {version.state.value} ({_explain(version)})")
    if alias is not None:
        stands = "stands for it" if version.state is ModelState.READY else "will stand for it then"
        click.echo(f"{package.name}@{alias} {stands}")


def _explain(version: ModelVersion) -> str:
    if version.state is ModelState.READY:
        return "the same files were imported before"
    return f"a worker loads it and sees its known answer; then it is ready: job {version.job_id}"


def _load_settings() -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        names = ", ".join(f"OVERTILE_{fault['loc'][0]}".upper() for fault in error.errors())
        raise click.ClickException(f"set the variables of the services first; missing or wrong: {names}") from error


@contextmanager
def _session() -> Iterator[Session]:
    try:
        with make_sessions(make_engine(_load_settings()))() as session:
            yield session
    except OvertileError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
