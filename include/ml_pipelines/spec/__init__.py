"""The declaration: what a YAML file may say."""
