"""Slurm as a launcher of llem."""

__version__ = "0.1.0"
