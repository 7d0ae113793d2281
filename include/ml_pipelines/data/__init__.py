"""Read, check and profile tables."""
