"""What engines raise alike, as errors that say what to do."""

from __future__ import annotations

from llem.errors import ConfigError, LlemError, MachineError

__all__ = ["files_failure"]


def files_failure(what: str, told: str, *, unreachable: bool) -> LlemError:
    """The error for an OSError while a model's files were sought.

    Args:
        what: "model 'name'", say.
        told: what the engine said, in one line.
        unreachable: the files are somewhere that could not be reached, rather than missing.
    """
    if unreachable:
        return MachineError(f"cannot fetch {what}: {told}", "check the network, or name a folder that holds the files")
    return ConfigError(
        f"cannot load {what}: {told}",
        "check the name and the revision, log in where the model is gated, or name a folder with config.json "
        "and weights",
    )
