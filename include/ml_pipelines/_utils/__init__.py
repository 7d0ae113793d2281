"""General helpers without any machine learning."""
