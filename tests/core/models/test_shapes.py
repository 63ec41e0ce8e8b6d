"""The named architectures: figures, counts, and that transformers builds exactly these models."""

from __future__ import annotations

import json

import pytest

from llem.models.shapes import SHAPES, parameter_count

PUBLISHED = {
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.2-1b": 1_235_814_400,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-7b": 7_615_616_512,
    "qwen3-8b": 8_190_735_360,
    "mistral-7b-v0.3": 7_248_023_552,
}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_count_is_that_of_the_published_weights(name: str) -> None:
    """A shape has as many parameters as the model it is named after."""
    assert parameter_count(SHAPES[name].config) == PUBLISHED[name]


def test_every_published_shape_has_its_count_checked() -> None:
    """No shape but our own tiny one escapes the check above."""
    assert set(SHAPES) - {"tiny"} == set(PUBLISHED)


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_transformers_builds_a_model_of_that_many_parameters(name: str) -> None:
    """The formula agrees with the modules transformers makes of the same configuration, tied weights counted once."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    kwargs = SHAPES[name].kwargs()
    config = transformers.AutoConfig.for_model(kwargs.pop("model_type"), **kwargs)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    assert sum(p.numel() for p in model.parameters()) == parameter_count(SHAPES[name].config)
    assert type(model).__name__ in SHAPES[name].config["architectures"]


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_transformers_takes_every_figure_as_it_is_written(name: str) -> None:
    """No value is dropped, renamed or replaced by a default on its way into the configuration class."""
    transformers = pytest.importorskip("transformers")
    kwargs = SHAPES[name].kwargs()
    config = transformers.AutoConfig.for_model(kwargs.pop("model_type"), **kwargs).to_dict()
    assert {key: config[key] for key in kwargs} == kwargs


@pytest.mark.parametrize(
    ("changes", "more"),
    [
        ({"attention_bias": True}, 2 * (64 + 2 * 32 + 64)),
        ({"mlp_bias": True}, 2 * (2 * 192 + 64)),
        ({"tie_word_embeddings": True}, -512 * 64),
    ],
)
def test_biases_and_tying_are_counted(changes: dict[str, bool], more: int) -> None:
    """Optional biases add their size in each of the two layers; tying removes the output projection."""
    tiny = SHAPES["tiny"].kwargs()
    base = parameter_count(tiny)
    assert base is not None
    assert parameter_count({**tiny, **changes}) == base + more


def test_unknown_family_has_no_count() -> None:
    """A model type the formula does not cover gives None rather than a wrong number."""
    assert parameter_count({**SHAPES["tiny"].kwargs(), "model_type": "mixtral"}) is None


def test_shapes_cannot_be_changed_by_their_users() -> None:
    """What a caller does to its copy, nested values included, leaves the shape as it was."""
    before = json.dumps(dict(SHAPES["llama-3.1-8b"].config))
    copy = SHAPES["llama-3.1-8b"].kwargs()
    copy["hidden_size"] = 1
    copy["rope_parameters"]["factor"] = 1.0
    assert json.dumps(dict(SHAPES["llama-3.1-8b"].config)) == before
    with pytest.raises(TypeError):
        SHAPES["llama-3.1-8b"].config["hidden_size"] = 1  # type: ignore[index]
