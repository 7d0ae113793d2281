"""Reports on training runs and on drift, figures of evaluations, and decision cards."""
