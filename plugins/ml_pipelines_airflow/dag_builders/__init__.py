"""Builders of the DAGs, most of them from a declaration."""
