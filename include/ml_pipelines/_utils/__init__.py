"""Helpers without knowledge of machine learning."""
