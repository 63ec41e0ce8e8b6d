"""What vLLM raises, as errors that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from llem.backends.check import files_failure
from llem.errors import ConfigError, ExperimentFailed, LlemError, MachineError

__all__ = ["load_failures", "run_failures"]

OUT_OF_MEMORY = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "no available memory",
    "free memory on device",
    "less than requested memory for kv",
    "kv cache is needed, which is larger than the available",
    "larger than the available kv cache memory",
    "to serve at least one request",
    "cublas_status_alloc_failed",
)
#: vLLM's own names for a caller's mistake; from some version on they are no ValueErrors.
MISTAKES = ("VLLMClientError", "VLLMValidationError", "VLLMNotFoundError", "VLLMUnprocessableEntityError")
UNREACHABLE = ("couldn't connect", "offline", "connection error", "timed out")
SMALLER = "raise gpu_memory_utilization or kv_cache_memory_bytes, lower max_model_len or max_num_seqs, or use more GPUs"


@contextmanager
def load_failures(what: str) -> Iterator[None]:
    """Turn what vLLM raises while loading into an LlemError.

    vLLM's engine process tells its cause only in the log, so its bare failure points there.
    """
    try:
        yield
    except (LlemError, KeyboardInterrupt):
        raise
    except ImportError as error:
        raise MachineError(
            f"cannot load {what}: {_said(error)}",
            "install the package that the message names, or choose another option",
            code="requirement_missing",
        ) from error
    except MemoryError as error:
        raise ExperimentFailed(f"out of memory while loading {what}: {_said(error)}", SMALLER, code="oom") from error
    except OSError as error:
        unreachable = any(sign in str(error).lower() for sign in UNREACHABLE)
        raise files_failure(what, _said(error), unreachable=unreachable) from error
    except (ValueError, TypeError, KeyError, NotImplementedError, AssertionError) as error:
        _memory(f"loading {what}", error)
        hint = "the model or an option does not fit vLLM; the message says which"
        raise ConfigError(f"cannot load {what}: {_said(error)}", hint) from error
    except Exception as error:
        _memory(f"loading {what}", error)
        if _is_mistake(error):
            hint = "the model or an option does not fit vLLM; the message says which"
            raise ConfigError(f"cannot load {what}: {_said(error)}", hint) from error
        if "engine core initialization failed" in str(error).lower():
            hint = "the cause stands above in the log of this worker; `in_process: true` raises it here"
            raise ExperimentFailed(f"vLLM's engine process ended while loading {what}", hint) from error
        raise


@contextmanager
def run_failures(what: str) -> Iterator[None]:
    """Turn what vLLM raises while it runs: memory, prompts that do not fit, an engine process that died."""
    try:
        yield
    except (LlemError, KeyboardInterrupt, GeneratorExit):
        raise
    except MemoryError as error:
        raise ExperimentFailed(f"out of memory while {what}: {_said(error)}", SMALLER, code="oom") from error
    except Exception as error:
        _memory(what, error)
        if isinstance(error, ValueError) or _is_mistake(error):
            raise ConfigError(
                f"vLLM refuses a request while {what}: {_said(error)}",
                "use shorter prompts or fewer output tokens, a larger max_model_len, or another sampling setting",
            ) from error
        if not type(error).__module__.startswith("vllm."):
            raise
        dead = type(error).__name__ == "EngineDeadError"
        raise ExperimentFailed(
            f"vLLM's engine {'process died' if dead else 'failed'} while {what}: {_said(error)}",
            "the cause stands above in the log of this worker",
        ) from error


def _is_mistake(error: BaseException) -> bool:
    return any(kind.__name__ in MISTAKES for kind in type(error).__mro__)


def _memory(what: str, error: BaseException) -> None:
    """Raise ExperimentFailed where the text, or that of a cause, tells of memory."""
    told: BaseException | None = error
    while told is not None:
        if any(sign in str(told).lower() for sign in OUT_OF_MEMORY) or type(told).__name__ == "OutOfMemoryError":
            raise ExperimentFailed(f"out of memory while {what}: {_said(told)}", SMALLER, code="oom") from error
        told = told.__cause__ or told.__context__


def _said(error: BaseException) -> str:
    """The first line that says something; pydantic's first line counts the faults, the third holds the message."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if "validation error" in lines[0] and len(lines) > 1:
        return " ".join(lines[1:3]).split(" [type=")[0]
    return lines[0]
