"""Local servers: the demo, the stack without Docker, and the servers of the tests."""
