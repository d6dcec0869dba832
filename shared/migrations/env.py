"""Alembic's entry: runs within the connection and transaction it is handed."""

from alembic import context

from shared.tables import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()
