"""Loops that a user would write by hand, for `overhead.py`: build the batch, generate, take the tokens to the host.

They use the engine that llem has loaded (same weights, same compiled graphs) and nothing else of llem.
"""

from __future__ import annotations

import random
import time
from typing import Any

import pynvml

#: Tokens of every prompt.
INPUT = 128


def counter_j() -> float | None:
    """The bare energy counter of the first GPU; None without one."""
    try:
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByIndex(0)) / 1000
    except pynvml.NVMLError_Uninitialized:
        return None


class ByHand:
    """`output` tokens for each of `batch` prompts, again and again."""

    def __init__(self, batch: int, output: int) -> None:
        self.batch, self.output, self.rng = batch, output, random.Random(2)

    def one(self, ids: list[list[int]]) -> int:
        """Generate for one batch; the number of tokens that came."""
        raise NotImplementedError

    @property
    def vocabulary(self) -> int:
        raise NotImplementedError

    def prompts(self) -> list[list[int]]:
        return [[self.rng.randrange(3, self.vocabulary) for _ in range(INPUT)] for _ in range(self.batch)]

    def window(self, batches: int) -> dict[str, float]:
        """`batches` batches; prompts are drawn before, as llem draws them before its window."""
        lead_in, *work = [self.prompts() for _ in range(batches + 1)]
        self.one(lead_in)
        joules = counter_j()
        start = time.perf_counter()
        tokens = sum(self.one(ids) for ids in work)
        seconds = time.perf_counter() - start
        found = {"tokens_per_s": tokens / seconds, "seconds": seconds}
        return found if joules is None else {**found, "joules_per_token": (counter_j() - joules) / tokens}


class TransformersByHand(ByHand):
    """`model.generate` on one tensor."""

    def __init__(self, engine: Any, batch: int, output: int, cache: str | None) -> None:
        super().__init__(batch, output)
        self.model = engine.model
        self.extra = {} if cache is None else {"cache_implementation": cache}

    @property
    def vocabulary(self) -> int:
        return int(self.model.config.vocab_size)

    def one(self, ids: list[list[int]]) -> int:
        import torch

        with torch.inference_mode():
            tensor = torch.tensor(ids, device=self.model.device)
            out = self.model.generate(
                tensor,
                attention_mask=torch.ones_like(tensor),
                max_new_tokens=self.output,
                min_new_tokens=self.output,
                do_sample=False,
                pad_token_id=0,
                **self.extra,
            )
            return sum(len(row) for row in out[:, INPUT:].tolist())


class VllmByHand(ByHand):
    """`LLM.generate` on token ids, without text."""

    def __init__(self, engine: Any, batch: int, output: int) -> None:
        from vllm import SamplingParams

        super().__init__(batch, output)
        self.llm = engine.llm
        self.params = SamplingParams(temperature=0, max_tokens=output, ignore_eos=True, detokenize=False)

    @property
    def vocabulary(self) -> int:
        return int(self.llm.llm_engine.vllm_config.model_config.get_vocab_size())

    def one(self, ids: list[list[int]]) -> int:
        outputs = self.llm.generate([{"prompt_token_ids": row} for row in ids], self.params, use_tqdm=False)
        return sum(len(output.outputs[0].token_ids) for output in outputs)
