"""Where the artifact store keeps its files: a local folder or S3."""
