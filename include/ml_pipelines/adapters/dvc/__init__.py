"""Data from DVC repositories."""
