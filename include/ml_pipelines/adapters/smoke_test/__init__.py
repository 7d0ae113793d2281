"""Load a registered model in a clean process and compare its predictions."""
