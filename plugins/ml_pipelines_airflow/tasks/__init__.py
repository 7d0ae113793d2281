"""Callables of the DAGs' tasks."""
