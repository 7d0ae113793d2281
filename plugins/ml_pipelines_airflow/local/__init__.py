"""Servers for the demo, the tests and a stack without Docker."""
