"""Metrics, bootstrap intervals and the comparison of two models."""
