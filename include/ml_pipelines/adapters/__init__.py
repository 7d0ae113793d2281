"""Real systems behind the ports. Only this code imports mlflow, dvc and sqlalchemy; their errors are mapped here."""
