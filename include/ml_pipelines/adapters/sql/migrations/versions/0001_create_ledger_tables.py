"""The entries, the heads of the chains, and the triggers that keep both append-only."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

__all__ = ["branch_labels", "depends_on", "down_revision", "revision", "upgrade"]

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_REFUSED = "the ledger keeps every entry as it was written"
_START = "0" * 64  # hash of the head of an empty chain

# Conditions of a refusal, the same in both databases. A new entry follows the head of its model. A new head begins an
# empty chain. A head moves to the next entry only.
_ENTRY_OUT_OF_ORDER = "NEW.seq {differs} (SELECT seq + 1 FROM ml_ledger_heads WHERE model = NEW.model)"
_HEAD_OF_NO_START = f"NEW.seq {{differs}} 0 OR NEW.hash {{differs}} '{_START}'"
_HEAD_NOT_NEXT = "NEW.model {differs} OLD.model OR NEW.seq {differs} OLD.seq + 1"
_HEAD_OF_NO_ENTRY = (
    "NOT EXISTS (SELECT 1 FROM ml_ledger_entries WHERE model = NEW.model AND seq = NEW.seq AND hash = NEW.hash)"
)
# INSERT OR REPLACE in SQLite deletes the old row without firing delete triggers.
_ENTRY_REPLACES = "EXISTS (SELECT 1 FROM ml_ledger_entries WHERE id = NEW.id OR (model = NEW.model AND seq = NEW.seq))"
_HEAD_REPLACES = "EXISTS (SELECT 1 FROM ml_ledger_heads WHERE model = NEW.model)"


def upgrade() -> None:
    """Create the tables and their triggers."""
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
        sqlite_with_rowid=False,  # a second unique column, by which a row could be replaced
    )
    postgresql = op.get_context().dialect.name == "postgresql"
    for statement in _postgresql_triggers() if postgresql else _sqlite_triggers():
        op.execute(statement)


def _sqlite_triggers() -> list[str]:
    def trigger(table: str, event: str, condition: str) -> str:
        name = f"ml_ledger_{table}_{event.lower()}"
        when = condition.format(differs="IS NOT")
        return (
            f"CREATE TRIGGER {name} BEFORE {event} ON ml_ledger_{table} WHEN {when}"
            f" BEGIN SELECT RAISE(ABORT, '{_REFUSED}'); END"
        )

    return [
        trigger("entries", "DELETE", "1"),
        trigger("entries", "UPDATE", "1"),
        trigger("entries", "INSERT", f"{_ENTRY_OUT_OF_ORDER} OR {_ENTRY_REPLACES}"),
        trigger("heads", "DELETE", "1"),
        trigger("heads", "UPDATE", f"{_HEAD_NOT_NEXT} OR {_HEAD_OF_NO_ENTRY}"),
        trigger("heads", "INSERT", f"{_HEAD_OF_NO_START} OR {_HEAD_REPLACES}"),
    ]


def _postgresql_triggers() -> list[str]:
    def function(name: str, condition: str) -> str:
        when = condition.format(differs="IS DISTINCT FROM")
        return (
            f"CREATE FUNCTION ml_ledger_{name}() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN IF {when} THEN RAISE EXCEPTION '{_REFUSED}'; END IF; RETURN NEW; END $$"
        )

    def trigger(table: str, event: str, called: str) -> str:
        name = f"ml_ledger_{table}_{event.partition(' ')[0].lower()}"
        rows = "STATEMENT" if event == "TRUNCATE" else "ROW"
        return (
            f"CREATE TRIGGER {name} BEFORE {event} ON ml_ledger_{table} FOR EACH {rows} EXECUTE FUNCTION"
            f" ml_ledger_{called}()"
        )

    return [
        function("refuse", "true"),
        function("check_entry", _ENTRY_OUT_OF_ORDER),
        function("check_start", _HEAD_OF_NO_START),
        function("check_head", f"{_HEAD_NOT_NEXT} OR {_HEAD_OF_NO_ENTRY}"),
        trigger("entries", "UPDATE OR DELETE", "refuse"),
        trigger("entries", "TRUNCATE", "refuse"),
        trigger("entries", "INSERT", "check_entry"),
        trigger("heads", "DELETE", "refuse"),
        trigger("heads", "TRUNCATE", "refuse"),
        trigger("heads", "INSERT", "check_start"),
        trigger("heads", "UPDATE", "check_head"),
    ]
