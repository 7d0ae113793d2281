"""The gate, the deployment of a model version, and the history of decisions."""
