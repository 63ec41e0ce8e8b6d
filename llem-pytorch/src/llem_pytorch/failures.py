"""What torch and transformers raise, as errors that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from safetensors import SafetensorError

from llem.backends.check import files_failure
from llem.errors import ConfigError, ExperimentFailed, LlemError, MachineError

__all__ = ["generation_failures", "load_failures", "memory_failures"]

OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "cublas_status_alloc_failed")
UNREACHABLE = ("couldn't connect", "offline", "connection", "timed out")


@contextmanager
def memory_failures(what: str) -> Iterator[None]:
    """Turn every form in which memory runs out into ExperimentFailed with the code "oom".

    Beside its own exception torch raises RuntimeError for the CPU allocator and for cuBLAS.
    """
    try:
        yield
    except LlemError:
        raise
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        told = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not told and not any(sign in str(error).lower() for sign in OUT_OF_MEMORY):
            raise
        raise ExperimentFailed(
            f"out of memory while {what}: {_first_line(error)}",
            "use a smaller load.batch_size, fewer tokens, a smaller dtype or quantisation, or more GPUs",
            code="oom",
        ) from error


@contextmanager
def generation_failures() -> Iterator[None]:
    """Turn what transformers raises for settings of generation that it does not take into ConfigError."""
    try:
        yield
    except ImportError as error:
        raise MachineError(
            f"cannot generate: {_first_line(error)}",
            "install the package that the message names, or choose another option",
            code="requirement_missing",
        ) from error
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"transformers does not generate with these settings: {_first_line(error)}",
            "the message names the setting: see sampling, pytorch and pytorch.extra_generation",
        ) from error


@contextmanager
def load_failures(what: str) -> Iterator[None]:
    """Turn what loading raises for a mistake of the user into ConfigError or MachineError.

    Args:
        what: "model 'name'" or "adapter 'name'".
    """
    try:
        yield
    except ImportError as error:
        raise MachineError(
            f"cannot load {what}: {_first_line(error)}",
            "install the package that the message names, or choose another option",
            code="requirement_missing",
        ) from error
    except OSError as error:
        unreachable = any(sign in str(error).lower() for sign in UNREACHABLE)
        raise files_failure(what, _first_line(error), unreachable=unreachable) from error
    except RuntimeError as error:
        if "ignore_mismatched_sizes" not in str(error):
            raise
        raise ConfigError(
            f"cannot load {what}: weights in its files have other sizes than its configuration says",
            "mend config.json, or set `pytorch.extra_model.ignore_mismatched_sizes: true` to fill them at random",
        ) from error
    except (ValueError, KeyError, SafetensorError) as error:
        raise ConfigError(
            f"cannot load {what}: {_first_line(error)}",
            "the files are damaged, or the architecture or an option does not fit; the message says which",
        ) from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
