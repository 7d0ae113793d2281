"""The callables of the tasks."""
