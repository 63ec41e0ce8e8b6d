"""What TensorRT-LLM raises, as errors that say what to do.

Its exceptions are told by their words: a worker process hands on most of them as RuntimeError, whatever they were.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llem.backends.check import files_failure
from llem.errors import ConfigError, ExperimentFailed, LlemError, MachineError, Problem

__all__ = ["load_failures", "memory_failures"]

OUT_OF_MEMORY = (
    "out of memory",
    "outofmemory",
    "cudaerrormemoryallocation",
    "cublas_status_alloc_failed",
    "can't allocate memory",
    "insufficient memory",
)
UNREACHABLE = ("couldn't connect", "offline", "connection", "timed out")
#: What a GPU or a build cannot do, found out while loading.
CAPABILITY = ("do not support", "does not support", "not supported", "unsupported")


@contextmanager
def memory_failures(what: str) -> Iterator[None]:
    """Turn every form in which memory runs out into ExperimentFailed with the code "oom"."""
    try:
        yield
    except LlemError:
        raise
    except (MemoryError, RuntimeError, ValueError) as error:
        if not isinstance(error, MemoryError) and not _says(error, OUT_OF_MEMORY):
            raise
        raise ExperimentFailed(
            f"out of memory while {what}: {_telling_line(error, OUT_OF_MEMORY)}",
            "use a smaller load.batch_size, fewer tokens, a smaller tensorrt.kv_cache_config.free_gpu_memory_fraction, "
            "a smaller dtype or quantisation, or more GPUs",
            code="oom",
        ) from error


@contextmanager
def load_failures(what: str, path: str = "tensorrt") -> Iterator[None]:
    """Turn what loading raises for a mistake of the user into ConfigError or MachineError.

    Args:
        what: "model 'name'", or a section.
        path: of the section whose arguments are checked, for messages.
    """
    try:
        yield
    except LlemError:
        raise
    except ImportError as error:
        raise MachineError(
            f"cannot load {what}: {_first_line(error)}",
            "install TensorRT-LLM by NVIDIA's guide (driver, CUDA toolkit, MPI), or what the message names",
            code="requirement_missing",
        ) from error
    except OSError as error:
        unreachable = _says(error, UNREACHABLE)
        raise files_failure(what, _first_line(error), unreachable=unreachable) from error
    except (ValueError, TypeError, KeyError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            f"TensorRT-LLM refuses {what}: {_first_line(error)}",
            "the message says which option or file does not fit",
            problems=tuple(_problems(error, path)),
        ) from error
    except RuntimeError as error:
        if not _says(error, CAPABILITY):
            raise
        raise ConfigError(
            f"TensorRT-LLM cannot run {what} here: {_telling_line(error, CAPABILITY)}",
            "choose another dtype, quantisation or kernel for this GPU",
        ) from error


def _problems(error: BaseException, path: str) -> Iterator[Problem]:
    """What pydantic lists, each with the path to the value as a user wrote it."""
    listed: Any = getattr(error, "errors", None)
    if not callable(listed):
        return
    for one in listed():
        place = ".".join(str(step) for step in one.get("loc", ()))
        yield Problem(f"{path}.{place}" if place else path, str(one.get("msg", "is not valid")))


def _says(error: BaseException, signs: tuple[str, ...]) -> bool:
    text = f"{type(error).__name__}: {error}".lower()
    return any(sign in text for sign in signs)


def _telling_line(error: BaseException, signs: tuple[str, ...]) -> str:
    """The line that tells it: a worker's error may come with the traceback of another process."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if any(sign in line.lower() for sign in signs)), _first_line(error))


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
