"""Serving loads: who sends which request when, the window within it, and the engine's capacity."""
