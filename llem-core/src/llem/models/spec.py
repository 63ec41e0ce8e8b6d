"""What is known of a model before and after it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs

__all__ = ["Architecture", "ModelSpec", "vocabulary_of"]


@attrs.frozen
class ModelSpec:
    """A model as asked for. Usable as a key; the mapping in it is compared, and left out of the hash.

    Attributes:
        name: what the user wrote.
        source: "shape" (random weights), "folder", "hub", "served" by the name that a server gives it, or "none" where
            a command runs whatever it likes.
        weights: "random", "real" or "unknown".
        path: the folder, for source "folder".
        revision: of a hub model.
        config: keyword arguments of the Hugging Face configuration class, `model_type` included; for "shape" and
            "folder", None for "hub".
        seed: of random weights.
        fingerprint: what names the model's content on any machine (part of the experiment's identity).
    """

    name: str
    source: Literal["shape", "folder", "hub", "served", "none"]
    weights: Literal["random", "real", "unknown"]
    fingerprint: str
    path: str | None = None
    revision: str | None = None
    config: Mapping[str, Any] | None = attrs.field(default=None, hash=False)
    seed: int = 0


def vocabulary_of(model: ModelSpec | None) -> int:
    """Size of the vocabulary, by the model's configuration; 256, as of bytes, where that is not known."""
    config = (None if model is None else model.config) or {}
    return int(config.get("vocab_size") or config.get("text_config", {}).get("vocab_size") or 256)


def _pairs(value: Any) -> tuple[tuple[int, int], ...] | None:
    """Windows as tuples: JSON has lists."""
    return None if value is None else tuple(tuple(pair) for pair in value)


@attrs.frozen
class Architecture:
    """Sizes of a loaded decoder. A backend gives None instead of sizes that it would have to guess.

    The fields with a default came later: what an old document does not tell, `llem.metrics.setup` derives where that is
    certain, and else no operations are counted.

    Attributes:
        parameters: all parameters, embeddings and all experts included.
        active_parameters: those that take part in one token's forward pass, without the input embedding, with the
            output projection (a mixture of experts counts the experts of one token only).
        layers, heads, kv_heads, head_dim, hidden_size, vocab_size: as in the model's configuration.
        weight_bytes: bytes of all weights as loaded, after quantisation, scales and zero points included.
        kv_bytes_per_token: bytes of key-value cache of one token, all layers together.
        windows: (tokens, layers) for each sliding window: how many layers attend to the last so many tokens only, the
            token itself among them. () if every layer attends to the whole context; None: not told.
        output_parameters: parameters of the output projection, which are among the active ones; None: `vocab_size`
            times `hidden_size`.
        read_bytes: bytes of weights that one pass through the model reads at least, as loaded: without tables that are
            only looked up, and with the experts of one token only. None: not known.
        experts: routed experts of a layer; 1 for a dense model.
        other_products: whether matrix products are computed in another number format than the engine's dtype (FP8 or
            int8 activations), so that the peak rate of the dtype does not bound them.
        unfit: why the number of passes does not follow from the number of tokens, as a code of
            `llem.findings.REASONS` ("speculative", "passes_unknown"); None if it does.
    """

    parameters: int
    active_parameters: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden_size: int
    vocab_size: int
    weight_bytes: int
    kv_bytes_per_token: int
    windows: tuple[tuple[int, int], ...] | None = attrs.field(default=None, converter=_pairs)
    output_parameters: int | None = None
    read_bytes: int | None = None
    experts: int = 1
    other_products: bool = False
    unfit: str | None = None

    @property
    def projection(self) -> int:
        """Parameters of the output projection."""
        return self.vocab_size * self.hidden_size if self.output_parameters is None else self.output_parameters
