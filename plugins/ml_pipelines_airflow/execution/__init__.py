"""Execution of steps in a worker process or in a container, and preloaded workers."""
