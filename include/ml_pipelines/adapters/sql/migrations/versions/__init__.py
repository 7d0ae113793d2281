"""The migrations. The variable `down_revision` of each one names its predecessor."""
