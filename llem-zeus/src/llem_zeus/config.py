"""Settings of the meter `zeus`."""

from __future__ import annotations

import attrs

from llem.config.fields import option

__all__ = ["ZeusOptions"]


@attrs.frozen(kw_only=True)
class ZeusOptions:
    """The section `zeus` of `meter_options`."""

    cpu: bool = option(
        True,
        help="Read CPU packages and their memory through RAPL, if this user may. False reads GPUs only.",
    )
