"""The prose linter of the project: `make prose`."""
