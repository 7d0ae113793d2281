"""Create a first declaration from data, and an empty project."""
