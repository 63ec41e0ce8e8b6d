"""Evaluators: quality, scored on the loaded engine."""
