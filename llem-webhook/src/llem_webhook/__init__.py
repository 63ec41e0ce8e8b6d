"""Tells a URL or a command when a study or an experiment has ended."""

__version__ = "0.1.0"
