"""Features, targets, estimators and the serialization of models."""
