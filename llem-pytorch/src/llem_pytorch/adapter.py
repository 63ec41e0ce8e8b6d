"""LoRA adapters through peft."""

from __future__ import annotations

import warnings
from typing import Any

from transformers import PreTrainedModel

from llem.errors import ConfigError
from llem_pytorch.config import PyTorchOptions
from llem_pytorch.failures import load_failures

__all__ = ["with_adapter"]


def with_adapter(model: PreTrainedModel, options: PyTorchOptions) -> PreTrainedModel:
    """The same model with LoRA layers in place, or merged into its weights.

    The adapter takes the dtype of the layers it sits in (peft's default would compute it in float32). peft's wrapper
    is left off, so that generation goes through the very class that runs without an adapter.

    Raises ConfigError for another kind of adapter, or one that does not fit the model.
    """
    from peft import PeftConfig, PeftModel

    name = options.adapter or ""
    with load_failures(f"adapter {name!r}"), warnings.catch_warnings():
        # peft asks transformers for an attribute by its old name; nothing a user can act on
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        config: Any = PeftConfig.from_pretrained(name, revision=options.adapter_revision)
        kind = getattr(config.peft_type, "value", config.peft_type)
        if kind != "LORA":
            raise ConfigError(f"adapter {name!r} is of kind {kind}", "this backend loads LoRA adapters only")
        try:
            wrapped: Any = PeftModel.from_pretrained(
                model, name, revision=options.adapter_revision, autocast_adapter_dtype=False
            )
        except RuntimeError as error:
            if "size mismatch" not in str(error):
                raise
            raise ConfigError(
                f"adapter {name!r} has other sizes than the model", "use an adapter made for this very model"
            ) from error
        return wrapped.merge_and_unload() if options.merge_adapter else wrapped.get_base_model()  # type: ignore[no-any-return]
