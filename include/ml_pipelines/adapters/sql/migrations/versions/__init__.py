"""The changes, in the order that each tells by `down_revision`."""
