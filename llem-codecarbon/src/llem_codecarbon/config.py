"""Settings of the meter `codecarbon`."""

from __future__ import annotations

import attrs

from llem.config.fields import between, option

__all__ = ["CodeCarbonOptions"]


@attrs.frozen(kw_only=True)
class CodeCarbonOptions:
    """The section `codecarbon` of `meter_options`. Both figures replace a guess of CodeCarbon's, and stay modelled."""

    cpu_power_w: float | None = option(
        None,
        help="Power of the whole CPU at full load, for the model; null takes RAPL where it is readable, else the TDP "
        "in CodeCarbon's table. When set, RAPL is not used.",
        unit="W",
        validator=between(0, 1_000_000),
    )
    ram_power_w: float | None = option(
        None,
        help="Power of all memory; null takes CodeCarbon's guess of 5 W per module, modules guessed from the size.",
        unit="W",
        validator=between(0, 1_000_000),
    )
