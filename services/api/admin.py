"""`overtile-admin`: what only the administrator does, on the machine itself. Needs the services' environment."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
from pydantic import ValidationError
from sqlalchemy.orm import Session

from shared import migrations
from shared.database import make_engine, make_sessions
from shared.domain import workspaces
from shared.errors import OvertileError
from shared.settings import Settings


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
