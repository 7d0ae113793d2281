"""SLAs of tasks as deadline alerts."""
