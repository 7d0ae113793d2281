"""The entries, the heads of the chains, and what keeps entries from being changed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

__all__ = ["branch_labels", "depends_on", "down_revision", "revision", "upgrade"]

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_REFUSED = "the ledger keeps every entry as it was written"
_SQLITE = (
    f"CREATE TRIGGER ml_ledger_entries_stay BEFORE DELETE ON ml_ledger_entries BEGIN SELECT RAISE(ABORT, '{_REFUSED}');"
    " END",
    f"CREATE TRIGGER ml_ledger_entries_are BEFORE UPDATE ON ml_ledger_entries BEGIN SELECT RAISE(ABORT, '{_REFUSED}');"
    " END",
)
_POSTGRESQL = (
    "CREATE FUNCTION ml_ledger_refuse() RETURNS trigger LANGUAGE plpgsql AS"
    f" $$ BEGIN RAISE EXCEPTION '{_REFUSED}'; END $$",
    "CREATE TRIGGER ml_ledger_entries_stay BEFORE UPDATE OR DELETE ON ml_ledger_entries"
    " FOR EACH ROW EXECUTE FUNCTION ml_ledger_refuse()",
    "CREATE TRIGGER ml_ledger_entries_all_stay BEFORE TRUNCATE ON ml_ledger_entries"
    " FOR EACH STATEMENT EXECUTE FUNCTION ml_ledger_refuse()",
)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "ml_ledger_entries",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), sa.Identity(), primary_key=True, nullable=False
        ),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("pipeline", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.UniqueConstraint("model", "seq", name="ml_ledger_one_entry_a_number"),
    )
    op.create_index("ml_ledger_of_run", "ml_ledger_entries", ["pipeline", "run_id"])
    op.create_table(
        "ml_ledger_heads",
        sa.Column("model", sa.Text(), primary_key=True),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    for statement in _POSTGRESQL if op.get_context().dialect.name == "postgresql" else _SQLITE:
        op.execute(statement)
