"""The ledger's tables, as they change; each change is a file in `versions`, run by alembic on first use."""
