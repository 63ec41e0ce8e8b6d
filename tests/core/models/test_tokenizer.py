"""Tokenizers: bytes for shapes, the real transformers class for folders, and errors that say what to do."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llem.errors import ConfigError, MachineError
from llem.models.resolve import resolve_model
from llem.models.spec import ModelSpec
from llem.models.tokenizer import ByteTokenizer, load_tokenizer, stops_at

WORDS = ["[UNK]", "<s>", "</s>", "user", ":", "assistant", "hello", "world", "on"]
TEMPLATE = (
    "{{ bos_token }} {% if date_string is defined %}on {{ date_string }} {% endif %}"
    "{% for m in messages %}{{ m['role'] }} : {{ m['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}assistant :{% endif %}"
)


def save_tokenizer(folder: Path, template: str | None) -> ModelSpec:
    """A word-level tokenizer that adds <s> by itself, saved as a model folder."""
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    vocabulary = {word: index for index, word in enumerate(WORDS)}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    inner.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="[UNK]"
    )
    fast.chat_template = template
    fast.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": len(WORDS)}))
    return resolve_model(str(folder))


@given(st.text())
def test_bytes_round_trip(text: str) -> None:
    """Ids are the UTF-8 bytes of the text and nothing else."""
    assert bytes(ByteTokenizer(512).encode(text)).decode() == text
    assert ByteTokenizer(512).decode(ByteTokenizer(512).encode(text)) == text


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_bytes_begin_with_their_character(text: str) -> None:
    """Each byte of a character begins where the character stands."""
    ids, starts = ByteTokenizer(512).encode_starts(text)

    assert bytes(ids) == text.encode()
    assert starts == [place for place, character in enumerate(text) for _ in character.encode()]


def test_a_fast_tokenizer_tells_where_tokens_begin(tmp_path: Path) -> None:
    """Without the token that it begins a prompt with; a slow one tells the ids alone."""
    tokenizer = load_tokenizer(save_tokenizer(tmp_path, None))

    assert tokenizer.encode_starts("hello on  world") == ([6, 8, 7], [0, 6, 10])
    tokenizer._tokenizer = Slow(tokenizer._tokenizer)
    assert tokenizer.encode_starts("hello on  world") == ([6, 8, 7], None)


class Slow:
    """A tokenizer without offsets."""

    is_fast = False

    def __init__(self, inner) -> None:
        self.encode = inner.encode


def test_ids_beyond_bytes_have_no_text() -> None:
    """Half a character is marked as one; what no text gives cannot be turned into text."""
    assert ByteTokenizer(512).decode([0xC3]) == "\ufffd"
    with pytest.raises(ConfigError, match="token 300 of a `shape:` model stands for no text"):
        ByteTokenizer(512).decode([97, 300])


def test_ids_beyond_bytes_are_marked_where_that_will_do() -> None:
    """Not strict, an id that stands for no text is one replacement character, and the rest is told."""
    assert ByteTokenizer(512).decode([97, 300, 98], strict=False) == "a\ufffdb"


def test_bytes_have_no_special_tokens() -> None:
    """Nothing begins or ends a text, so it is encoded in one way."""
    tokenizer = ByteTokenizer(512)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (None, None)
    assert tokenizer.encode("ab", special_tokens=False) == tokenizer.encode("ab")


@pytest.mark.parametrize(
    ("stop", "count"), [(("lo",), 5), (("z", "l"), 3), (("hello",), 5), (("z",), None), ((), None)]
)
def test_an_answer_ends_at_the_token_that_completes_a_text(stop: tuple[str, ...], count: int | None) -> None:
    """The first text that is whole counts; a text over several tokens ends with its last one."""
    assert stops_at(list(b"hello"), stop, ByteTokenizer(512)) == count


def test_byte_vocabulary_must_hold_all_bytes() -> None:
    """A model with fewer than 256 ids cannot be given bytes."""
    assert ByteTokenizer(256).vocab_size == 256
    with pytest.raises(ConfigError, match="too small"):
        ByteTokenizer(255)


def test_shape_gets_bytes_and_no_chat() -> None:
    """A shape's tokenizer needs no files; asking it for a chat template says what to do."""
    tokenizer = load_tokenizer(resolve_model("shape:tiny"))
    assert tokenizer.encode("Aé") == [65, 0xC3, 0xA9]
    assert tokenizer.vocab_size == 512
    assert tokenizer.chat_template is None
    with pytest.raises(ConfigError, match="no chat template"):
        tokenizer.encode_chat("hello")


def test_plain_prompt_gets_the_special_tokens_the_model_expects(tmp_path: Path) -> None:
    """A plain prompt begins with <s>, because this tokenizer adds it in ordinary use."""
    tokenizer = load_tokenizer(save_tokenizer(tmp_path, TEMPLATE))
    assert tokenizer.encode("hello world") == [1, 6, 7]
    assert tokenizer.vocab_size == len(WORDS)


def test_text_of_ids_is_without_special_tokens(tmp_path: Path) -> None:
    """Whoever takes the text adds its own <s>."""
    assert load_tokenizer(save_tokenizer(tmp_path, TEMPLATE)).decode([1, 6, 7]) == "hello world"


def test_chat_is_a_plain_list_up_to_the_answer(tmp_path: Path) -> None:
    """The template is applied with its own <s> only, the answer's beginning, and a date that never changes."""
    tokenizer = load_tokenizer(save_tokenizer(tmp_path, TEMPLATE))
    ids = tokenizer.encode_chat("hello world")
    assert [WORDS[i] for i in ids] == ["<s>", "on", *["[UNK]"] * 3, "user", ":", "hello", "world", "assistant", ":"]
    assert type(ids) is list
    assert all(type(i) is int for i in ids)
    assert tokenizer.chat_template == TEMPLATE


def test_model_without_chat_template(tmp_path: Path) -> None:
    """A base model asked for chat says so, rather than sending the bare text."""
    tokenizer = load_tokenizer(save_tokenizer(tmp_path, None))
    assert tokenizer.chat_template is None
    with pytest.raises(ConfigError, match="no chat template"):
        tokenizer.encode_chat("hello")


def test_a_template_that_refuses_messages(tmp_path: Path) -> None:
    """Whatever its error is made of, it is the messages that cannot be used."""
    refusing = "{{ raise_exception('roles must alternate') }}"
    tokenizer = load_tokenizer(save_tokenizer(tmp_path, refusing))
    with pytest.raises(ConfigError, match="refuses the messages: roles must alternate"):
        tokenizer.chat_text([{"role": "user", "content": "hello"}])
    with pytest.raises(ConfigError, match="refuses the messages: roles must alternate"):
        tokenizer.encode_chat("hello")


def test_folder_without_tokenizer_files(tmp_path: Path) -> None:
    """Missing files are the user's to mend, and the hint names them."""
    pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 300}))
    with pytest.raises(ConfigError, match=r"tokenizer\.json"):
        load_tokenizer(resolve_model(str(tmp_path)))


def test_hub_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network an id that is not in the cache is reported, with the way round it."""
    pytest.importorskip("transformers")
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="without a network"):
        load_tokenizer(resolve_model("llem-tests/no-such-model"))


def test_code_of_the_model_does_not_run_unasked(tmp_path: Path) -> None:
    """A tokenizer that brings code is refused with the name of the switch."""
    pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 300}))
    own = {"tokenizer_class": "Foo", "auto_map": {"AutoTokenizer": ["foreign.Foo", None]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(own))
    (tmp_path / "foreign.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ConfigError, match="trust_remote_code: true"):
        load_tokenizer(resolve_model(str(tmp_path)))


def test_transformers_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where transformers is not installed, a real model says what to install; a shape does not need it."""
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MachineError, match="pip install"):
        load_tokenizer(resolve_model("org/name"))
    assert load_tokenizer(resolve_model("shape:tiny")).encode("a") == [97]
