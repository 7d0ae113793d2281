"""SQL databases: the ledger, the model lock and SQL sources."""
