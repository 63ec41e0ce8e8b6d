"""What is known of a model before and after it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs

__all__ = ["Architecture", "ModelSpec"]


@attrs.frozen
class ModelSpec:
    """A model as asked for. Usable as a key; the mapping in it is compared, and left out of the hash.

    Attributes:
        name: what the user wrote.
        source: "shape" (random weights), "folder" or "hub".
        weights: "random" or "real".
        path: the folder, for source "folder".
        revision: of a hub model.
        config: keyword arguments of the Hugging Face configuration class, `model_type` included; for "shape" and
            "folder", None for "hub".
        seed: of random weights.
        fingerprint: what names the model's content on any machine (part of the experiment's identity).
    """

    name: str
    source: Literal["shape", "folder", "hub"]
    weights: Literal["random", "real"]
    fingerprint: str
    path: str | None = None
    revision: str | None = None
    config: Mapping[str, Any] | None = attrs.field(default=None, hash=False)
    seed: int = 0


@attrs.frozen
class Architecture:
    """Sizes of a loaded decoder.

    Attributes:
        parameters: all parameters, embeddings included.
        active_parameters: those that take part in one token's forward pass, without the input embedding, with the
            output projection (a mixture of experts counts its active experts only).
        layers, heads, kv_heads, head_dim, hidden_size, vocab_size: as in the model's configuration.
        weight_bytes: bytes of all weights as loaded, after quantisation.
        kv_bytes_per_token: bytes of key-value cache of one token, all layers.
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
