"""Deterministic simulation of the protocol: the real code over simulated files, database, registry, Slack and clock."""
