"""Operators that change which model version serves, and the branch operator of the training DAG."""
