"""The steps: pure functions of frames and parameters, and effects through ports. None knows another."""
