"""How large everything is. The defaults are for a GPU of the H100 class; smaller ones try the whole in seconds."""

from __future__ import annotations

import attrs

__all__ = ["Sizes"]


@attrs.frozen(kw_only=True)
class Sizes:
    """Sizes and lengths of the validation, each settable as `--set NAME=VALUE`.

    Attributes:
        device: "cuda", or "cpu" to try it.
        model: whose shape the parts with a language model measure.
        rows, size, per_token, tokens: of the backend `products`: its matrices, products of a token, tokens of a batch.
        scale: of all lengths of time that are no periods.
        wide: sequences at a time that keep the GPU busy without pause, although the host launches each kernel.
        trials: of each experiment whose scatter counts, over both processes.
    """

    device: str = "cuda"
    model: str = "shape:llama-3.1-8b"
    rows: int = 64
    size: int = 8192
    per_token: int = 16
    tokens: int = 1000
    scale: float = 1.0
    wide: int = 1024
    trials: int = 20

    def seconds(self, usual: float) -> float:
        """A length of time, scaled."""
        return usual * self.scale
