"""Settings of the meter `codecarbon`."""

from __future__ import annotations

import attrs

from llem.config.fields import between, option

__all__ = ["CodeCarbonOptions"]


@attrs.frozen(kw_only=True)
class CodeCarbonOptions:
    """The section `codecarbon`. Both settings replace a guess of CodeCarbon's; the energies stay modelled."""

    cpu_power_w: float | None = option(
        None,
        help="Power of the whole CPU at full load, for the model. If set, CodeCarbon ignores RAPL. Null takes RAPL if "
        "readable, else the TDP in CodeCarbon's table.",
        unit="W",
        validator=between(0, 1_000_000),
    )
    ram_power_w: float | None = option(
        None,
        help="Power of all memory. Null takes CodeCarbon's guess: 5 W per module, with the number of modules guessed "
        "from the size.",
        unit="W",
        validator=between(0, 1_000_000),
    )
