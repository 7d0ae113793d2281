"""Run one step, a training or a batch."""
