"""What people look at: figures of an evaluation."""
