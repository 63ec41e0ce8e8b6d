"""A stand-in for TensorRT-LLM: its documented signatures, strictly, and deterministic tokens instead of a model.

It enforces names and types as the real one does (pydantic with `extra="forbid"`, dataclasses), and computes nothing.
Only tests put it on the path. `standin` is its own: what was received, and which failure to play.
"""

from tensorrt_llm import standin
from tensorrt_llm.llmapi.llm import LLM
from tensorrt_llm.sampling_params import SamplingParams

__version__ = "1.2.1"
__all__ = ["LLM", "SamplingParams", "standin"]
