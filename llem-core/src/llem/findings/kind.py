"""What a code of a finding stands for."""

from __future__ import annotations

from typing import Literal

import attrs

__all__ = ["FindingKind", "Severity"]

Severity = Literal["error", "warning", "info"]


@attrs.frozen
class FindingKind:
    """What a finding code means: `severity` error makes the result invalid, warning makes it not publishable."""

    severity: Severity
    meaning: str
    remedy: str
