"""Settings, and the services that they connect to."""
