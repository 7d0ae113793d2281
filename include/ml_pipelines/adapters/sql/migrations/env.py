"""What alembic runs: all changes in the transaction that the caller has open."""

from __future__ import annotations

from alembic import context

__all__ = ()

context.configure(
    connection=context.config.attributes["connection"],
    version_table=context.config.attributes["version_table"],
    transaction_per_migration=False,
)
context.run_migrations()
