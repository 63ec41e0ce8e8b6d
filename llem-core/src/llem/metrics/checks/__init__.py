"""Findings that follow from the stored numbers. Pure."""
