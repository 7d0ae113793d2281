"""Slack messages and mails about runs: one message per run, edited as the run progresses."""
