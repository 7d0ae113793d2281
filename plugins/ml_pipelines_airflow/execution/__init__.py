"""Where a step runs: in this process or in a container."""
