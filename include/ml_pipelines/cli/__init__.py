"""The command-line interface `ml-pipelines`."""
