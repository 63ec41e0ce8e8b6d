"""What a server counts by itself: a few figures of its page `/metrics`, in the text format of Prometheus."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping

from llem.backends.base import Observed
from llem_openai.server import Site

__all__ = ["COUNTERS", "LEVELS", "figures", "keeps_prompts", "observed"]

#: Time for the page: a server that is slower has more to do than to tell.
PAGE_S = 2.0
#: What stands at one moment, by the names of vLLM, SGLang, llama.cpp and TGI. `kv_cache_used` is a share.
LEVELS: Mapping[str, tuple[str, ...]] = {
    "requests_running": (
        "vllm:num_requests_running",
        "sglang:num_running_reqs",
        "llamacpp:requests_processing",
        "tgi_batch_current_size",
    ),
    "requests_waiting": (
        "vllm:num_requests_waiting",
        "sglang:num_queue_reqs",
        "llamacpp:requests_deferred",
        "tgi_queue_size",
    ),
    "kv_cache_used": (
        "vllm:kv_cache_usage_perc",
        "vllm:gpu_cache_usage_perc",
        "sglang:token_usage",
        "llamacpp:kv_cache_usage_ratio",
    ),
}
#: What only grows. The cache's are tokens.
COUNTERS: Mapping[str, tuple[str, ...]] = {
    "prompt_tokens": (
        "vllm:prompt_tokens_total",
        "sglang:prompt_tokens_total",
        "llamacpp:prompt_tokens_total",
        "tgi_request_input_length_sum",
    ),
    "output_tokens": (
        "vllm:generation_tokens_total",
        "sglang:generation_tokens_total",
        "llamacpp:tokens_predicted_total",
        "tgi_request_generated_tokens_sum",
    ),
    "cache_queried_tokens": ("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"),
    "cache_hit_tokens": (
        "vllm:prefix_cache_hits_total",
        "vllm:gpu_prefix_cache_hits_total",
        "sglang:cached_tokens_total",
    ),
    "preemptions": ("vllm:num_preemptions_total",),
}
#: Shares, of one at most, are averaged over the engines of a server; all else is added up.
SHARES = ("kv_cache_used",)
#: In the labels of `vllm:cache_config_info`.
CACHING = re.compile(r'^vllm:cache_config_info\{.*\benable_prefix_caching="(True|False)"', re.MULTILINE)
#: No figure is as great; so what is added up is a number too.
MOST = 2.0**64
SAMPLE = re.compile(r"([A-Za-z_:][A-Za-z0-9_:]*)(?:\{.*\})?[ \t]+(\S+)")


def observed(site: Site) -> Observed | None:
    """The page's figures now; None where there is no such page, or none of its figures is known."""
    text = _page(site)
    time_ns = time.monotonic_ns()
    told = {} if text is None else figures(text)
    levels = {name: told[name] for name in LEVELS if name in told}
    counters = {name: told[name] for name in COUNTERS if name in told}
    return Observed(time_ns, levels, counters) if told else None


def _page(site: Site) -> str | None:
    page = site.get(f"{site.root}/metrics", PAGE_S)
    return None if page is None or page.status != 200 else page.content.decode("utf-8", errors="replace")


def keeps_prompts(site: Site) -> bool | None:
    """Whether the server has a prefix cache, as vLLM tells it; None where that is not told."""
    told = set(CACHING.findall(_page(site) or ""))
    return None if not told else "True" in told


def figures(text: str) -> Mapping[str, float]:
    """The known figures of a page, by llem's names; of several samples of one name, their sum or mean. Pure.

    A figure of which one sample cannot be right is none: the sum of the others is not that of the server.
    """
    samples: dict[str, list[float]] = {}
    for line in text.split("\n"):
        if (found := SAMPLE.match(line)) is not None:
            samples.setdefault(found[1], []).append(_number(found[2]))
    told = {}
    for name, known in (*LEVELS.items(), *COUNTERS.items()):
        values = next((samples[one] for one in known if one in samples), ())
        most = 1.0 if name in SHARES else MOST
        if values and all(0 <= value <= most for value in values):  # NaN is not
            told[name] = math.fsum(values) / (len(values) if name in SHARES else 1)
    return told


def _number(text: str) -> float:
    """NaN where it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan
