"""From declarations to DAGs."""
