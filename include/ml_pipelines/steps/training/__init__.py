"""The steps of a training pipeline."""
