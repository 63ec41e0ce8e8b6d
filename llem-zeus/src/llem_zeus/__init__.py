"""Zeus as an energy meter of llem."""

__version__ = "0.1.0"
