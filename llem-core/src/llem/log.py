"""Logging for the worker: structured lines on standard error. Configured by programs, never on import."""

from __future__ import annotations

import logging
import sys

__all__ = ["to_stderr"]

LEVEL = logging.INFO


def to_stderr() -> None:
    """Send llem's and other libraries' log lines to standard error, with UTC times."""
    import structlog

    processors: list[structlog.types.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"]),
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(LEVEL),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(stream=sys.stderr, level=LEVEL, format="%(asctime)s %(levelname)s %(name)s %(message)s")
