"""Text to token ids: bytes for `shape:` models, the model's own tokenizer for real ones."""

from __future__ import annotations

import contextlib
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, NoReturn, Protocol

from llem.errors import ConfigError, MachineError
from llem.models.spec import ModelSpec

__all__ = ["ByteTokenizer", "HubTokenizer", "Tokenizer", "load_tokenizer", "stops_at"]

#: Some templates state the date and take it under this name; a fixed one keeps prompts the same from day to day.
CHAT_DATE = "26 Jul 2024"


class Tokenizer(Protocol):
    """Text to token ids."""

    @property
    def vocab_size(self) -> int:
        """Ids run from 0 to this number, exclusive."""

    @property
    def chat_template(self) -> str | None:
        """The template `encode_chat` applies, for the record; None where there is none."""

    @property
    def bos_token_id(self) -> int | None:
        """The token that begins a text; None where the model has none."""

    @property
    def eos_token_id(self) -> int | None:
        """The token that ends a text; None where the model has none."""

    def encode(self, text: str, *, special_tokens: bool = True) -> list[int]:
        """Token ids of a plain prompt, as the model's tokenizer makes them by default.

        That includes the special tokens it adds by itself (for most models a beginning-of-sequence token), because
        this is what the model is given in use. Without `special_tokens` they are those of the text alone.
        """

    def encode_starts(self, text: str) -> tuple[list[int], list[int] | None]:
        """Token ids of the text alone, and at which of its characters each token begins, rising.

        No starts (None) where the tokenizer does not tell them, as one without a fast implementation.
        """

    def decode(self, token_ids: Sequence[int], *, strict: bool = True) -> str:
        """The text of token ids without special tokens; encoding it again may give other ids.

        Raises ConfigError for an id that stands for no text; not `strict`, it is replaced by U+FFFD.
        """

    def token_text(self, token_id: int) -> str:
        """The text of one token, that of a special token such as `<s>` included; "" for an id that has none."""

    def encode_chat(self, user: str) -> list[int]:
        """Token ids of one user message in the model's chat template, up to where the answer begins.

        Raises ConfigError where there is no template.
        """

    def chat_text(self, messages: Sequence[Mapping[str, str]], *, generation_prompt: bool = True) -> str:
        """Messages ({"role": …, "content": …}) in the model's chat template, as text that holds its special tokens.

        Args:
            generation_prompt: end where the model's answer begins; else the last message goes on.

        Raises ConfigError where there is no template, or the template refuses the messages.
        """


class ByteTokenizer:
    """UTF-8 bytes as ids 0 to 255: needs no download and no training, and adds no special tokens.

    Args:
        vocab_size: of the model, at least 256. Ids from 256 on are never produced.
    """

    def __init__(self, vocab_size: int) -> None:
        if vocab_size < 256:
            raise ConfigError(
                f"a vocabulary of {vocab_size} is too small for text as bytes", "it must hold at least 256 ids"
            )
        self._vocab_size = vocab_size

    @property
    def vocab_size(self) -> int:
        return self._vocab_size

    @property
    def chat_template(self) -> str | None:
        return None

    @property
    def bos_token_id(self) -> int | None:
        return None

    @property
    def eos_token_id(self) -> int | None:
        return None

    def encode(self, text: str, *, special_tokens: bool = True) -> list[int]:
        return list(text.encode("utf-8"))

    def encode_starts(self, text: str) -> tuple[list[int], list[int] | None]:
        lengths = [len(character.encode()) for character in text]
        return self.encode(text), [place for place, length in enumerate(lengths) for _ in range(length)]

    def decode(self, token_ids: Sequence[int], *, strict: bool = True) -> str:
        if not strict:  # 0xff stands in no UTF-8
            token_ids = [min(token, 255) for token in token_ids]
        elif max(token_ids, default=0) > 255:
            raise ConfigError(
                f"token {max(token_ids)} of a `shape:` model stands for no text",
                "give the engine token ids, or use a workload that reads text",
            )
        return bytes(token_ids).decode("utf-8", errors="replace")

    def token_text(self, token_id: int) -> str:
        return bytes([token_id]).decode("utf-8", errors="replace") if token_id < 256 else ""

    def encode_chat(self, user: str) -> list[int]:
        raise ConfigError(
            "`shape:` models have no chat template", "set `chat: false` in the workload, or use a real model"
        )

    def chat_text(self, messages: Sequence[Mapping[str, str]], *, generation_prompt: bool = True) -> str:
        raise ConfigError("`shape:` models have no chat template", "leave the template out, or use a real model")


class HubTokenizer:
    """A Hugging Face tokenizer, of a folder or of the Hub."""

    def __init__(self, tokenizer: Any, name: str) -> None:
        self._tokenizer = tokenizer
        self._name = name

    @property
    def vocab_size(self) -> int:
        return len(self._tokenizer)  # with added tokens, which `vocab_size` of the wrapped tokenizer leaves out

    @property
    def chat_template(self) -> str | None:
        template = self._tokenizer.chat_template
        return template if isinstance(template, str) else None

    @property
    def bos_token_id(self) -> int | None:
        return self._special("bos_token_id")

    @property
    def eos_token_id(self) -> int | None:
        return self._special("eos_token_id")

    def _special(self, name: str) -> int | None:
        token = getattr(self._tokenizer, name)
        return None if token is None else int(token)

    def encode(self, text: str, *, special_tokens: bool = True) -> list[int]:
        return [int(token) for token in self._tokenizer.encode(text, add_special_tokens=special_tokens)]

    def encode_starts(self, text: str) -> tuple[list[int], list[int] | None]:
        if not getattr(self._tokenizer, "is_fast", False):
            return self.encode(text, special_tokens=False), None
        found = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        starts = accumulate((int(start) for start, _ in found["offset_mapping"]), max)  # an empty token may say 0
        return [int(token) for token in found["input_ids"]], list(starts)

    def decode(self, token_ids: Sequence[int], *, strict: bool = True) -> str:
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=True))

    def token_text(self, token_id: int) -> str:
        return str(self._tokenizer.decode([token_id]))

    def chat_text(self, messages: Sequence[Mapping[str, str]], *, generation_prompt: bool = True) -> str:
        if not self._tokenizer.chat_template:
            raise ConfigError(
                f"the tokenizer of {self._name!r} has no chat template",
                "leave the template out, or use the instruction-tuned model",
            )
        with self._refusals():
            text = self._tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                add_generation_prompt=generation_prompt,
                continue_final_message=not generation_prompt,
                tokenize=False,
                date_string=CHAT_DATE,
            )
        return str(text)

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        """Errors by which a template refuses messages are ConfigErrors."""
        try:
            yield
        except Exception as error:
            # transformers' own are ValueErrors; a template's are errors of jinja, which only transformers imports
            if not isinstance(error, ValueError) and type(error).__module__.partition(".")[0] != "jinja2":
                raise
            raise ConfigError(f"the chat template of {self._name!r} refuses the messages: {error}") from error

    def encode_chat(self, user: str) -> list[int]:
        if not self._tokenizer.chat_template:
            raise ConfigError(
                f"the tokenizer of {self._name!r} has no chat template",
                "set `chat: false` in the workload, or use the instruction-tuned model",
            )
        messages = [{"role": "user", "content": user}]
        with self._refusals():
            ids = self._tokenizer.apply_chat_template(
                messages,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=False,  # from transformers 5 on the default is a mapping with an attention mask
                date_string=CHAT_DATE,
            )
        return [int(token) for token in ids]


def stops_at(token_ids: Sequence[int], stop: Sequence[str], tokenizer: Tokenizer) -> int | None:
    """After how many of these tokens their text first holds one of the texts; None where it holds none."""

    def held(count: int) -> bool:
        text = tokenizer.decode(token_ids[:count], strict=False)
        return any(one in text for one in stop)

    counts = range(len(token_ids) + 1)
    return bisect_left(counts, True, key=held) if stop and held(len(token_ids)) else None


def load_tokenizer(spec: ModelSpec, *, trust_remote_code: bool = False) -> Tokenizer:
    """The tokenizer that belongs to a model. For a Hub id this may download.

    Raises:
        MachineError: transformers is not installed.
        ConfigError: the tokenizer's files are missing, unreadable or cannot be reached.
    """
    if spec.source == "shape":
        assert spec.config is not None
        return ByteTokenizer(int(spec.config["vocab_size"]))
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise MachineError(
            f"the tokenizer of {spec.name!r} needs transformers, which is not installed",
            "pip install transformers, or install a backend that brings it (pip install llem-pytorch)",
            code="requirement_missing",
        ) from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(  # type: ignore[no-untyped-call, unused-ignore]
            spec.path or spec.name, revision=spec.revision or "main", trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError, ImportError) as error:
        _explain(spec, error)
    return HubTokenizer(tokenizer, spec.name)


def _explain(spec: ModelSpec, error: Exception) -> NoReturn:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "trust_remote_code" in str(error):
        hint = "it comes with code of its own: read that code, then set `trust_remote_code: true` to let it run"
    elif isinstance(error, ImportError):
        hint = "install what the message names"
    elif spec.source == "folder":
        hint = "the folder must hold the tokenizer's files (tokenizer.json, tokenizer_config.json)"
    else:
        hint = (
            "check the id and the revision, and log in if the model is gated; without a network, "
            "download the model beforehand and name its folder"
        )
    raise ConfigError(
        f"the tokenizer of {spec.name!r} cannot be loaded: {reason}", hint, code="tokenizer_unavailable"
    ) from error
