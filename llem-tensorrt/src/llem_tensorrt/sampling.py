"""What one request asks the sampler for."""

from __future__ import annotations

from typing import Any

import attrs

from llem.backends.base import Request
from llem.config.models import Sampling
from llem.models.spec import ModelSpec
from llem_tensorrt.config import SAMPLING, TensorRTOptions

__all__ = ["EndIds", "sampling_arguments"]

#: An id that no vocabulary has. The engine itself puts it in place of the end where it is to be ignored.
NO_END = -1


@attrs.frozen
class EndIds:
    """Ids that end a sequence; empty where the engine's own tokenizer knows them."""

    ids: tuple[int, ...] = ()
    own: bool = True

    @classmethod
    def of(cls, model: ModelSpec) -> EndIds:
        """A shape has no tokenizer, so its ends are told to the engine; for other models it looks them up itself."""
        if model.source != "shape":
            return cls()
        found = (model.config or {}).get("eos_token_id")
        listed = [] if found is None else found if isinstance(found, list | tuple) else [found]
        return cls(tuple(int(end) for end in listed), own=False)

    def arguments(self) -> dict[str, Any]:
        """As SamplingParams take them: one end, and stop tokens for further ones."""
        if self.own:
            return {}
        first, *more = self.ids or (NO_END,)
        return {"end_id": first, **({"stop_token_ids": more} if more else {})}


def sampling_arguments(options: TensorRTOptions, sampling: Sampling, request: Request, ends: EndIds) -> dict[str, Any]:
    """Keyword arguments of SamplingParams for one request.

    Greedy is what SamplingParams mean by no temperature, top_k and top_p. Where tokens are sampled, top_p is always
    given, since none at all would be greedy again. The seed differs from request to request, so that equal prompts may
    be answered differently, and follows from `sampling.seed` and the request's index alone.
    """
    given: dict[str, Any] = {
        "max_tokens": request.output_tokens,
        "ignore_eos": sampling.ignore_eos,
        "include_stop_str_in_output": True,
        **ends.arguments(),
    }
    if sampling.temperature > 0:
        given |= {
            "temperature": sampling.temperature,
            "top_p": 1.0 if sampling.top_p is None else sampling.top_p,
            "seed": sampling.request_seed(request.index),
        }
        given |= {name: value for name in ("top_k", "min_p") if (value := getattr(sampling, name)) is not None}
    if sampling.repetition_penalty is not None:
        given["repetition_penalty"] = sampling.repetition_penalty
    given |= {name: value for name in SAMPLING if (value := getattr(options, name)) is not None}
    if options.use_beam_search:
        given |= {"n": 1, "best_of": options.max_beam_width}
    extra = dict(options.extra_sampling or {})
    if "stop_token_ids" in extra:
        extra["stop_token_ids"] = [*given.get("stop_token_ids", []), *extra["stop_token_ids"]]
    if request.stop:
        own = extra.get("stop") or []
        extra["stop"] = [*([own] if isinstance(own, str) else own), *request.stop]
    return {**given, **extra}
