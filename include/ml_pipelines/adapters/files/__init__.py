"""Data from local files and object storage."""
