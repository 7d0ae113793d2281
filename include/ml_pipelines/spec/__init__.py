"""The declaration: the contents of a YAML file, its validation, and the tables that validation needs."""
