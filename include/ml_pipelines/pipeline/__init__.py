"""The tables of steps, their parameters, their wiring and their cache keys."""
