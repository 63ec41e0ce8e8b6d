"""Settings that change nothing are left out of the identity, and nothing else is; bits of a weight, where certain."""

from __future__ import annotations

import attrs
import pytest

from llem.backends.base import Holding
from llem.config.models import Experiment, Sampling
from llem.models.resolve import resolve_model
from llem_pytorch.backend import PyTorchBackend
from llem_pytorch.config import PyTorchOptions

TINY = resolve_model("shape:tiny")


def experiment(sampling=None, dtype="bfloat16", **options) -> Experiment:
    """With these options of the section `pytorch`."""
    return Experiment(
        backend="pytorch", dtype=dtype, options=PyTorchOptions(**options), sampling=Sampling(**(sampling or {}))
    )


def canonical(one: Experiment) -> Experiment:
    return PyTorchBackend(one.options).canonical(one)


@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 1},
        {"use_cache": True},
        {"no_repeat_ngram_size": 0},
        {"load_in_4bit": False, "load_in_8bit": False},
        {"torch_compile": False},
        {"torch_compile": False, "cache_implementation": "dynamic"},
    ],
)
def test_what_the_engine_does_anyway_is_left_out(options) -> None:
    """The canonical experiment says nothing of it; what else was asked stays."""
    plain = {name: value for name, value in options.items() if name == "cache_implementation"}

    assert canonical(experiment(**options)) == experiment(**plain)


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"torch_compile": True, "torch_compile_mode": "default"}, {"torch_compile": True}),
        ({"torch_compile": True, "torch_compile_backend": "inductor"}, {"torch_compile": True}),
        (
            {"torch_compile": True, "cache_implementation": "static", "torch_compile_mode": "reduce-overhead"},
            {"torch_compile": True, "cache_implementation": "static"},
        ),
        ({"num_beams": 4, "length_penalty": 1.0, "early_stopping": False}, {"num_beams": 4}),
        (
            {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4", "bnb_4bit_compute_dtype": "bfloat16"},
            {"load_in_4bit": True},
        ),
    ],
)
def test_details_that_are_the_default_are_left_out(options, left) -> None:
    """Of what is switched on."""
    assert canonical(experiment(**options)) == experiment(**left)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_beams": 2},
        {"use_cache": False},
        {"attn_implementation": "sdpa"},
        {"cache_implementation": "dynamic"},
        {"torch_compile": True},
        {"torch_compile": False, "cache_implementation": "static"},
        {"torch_compile": True, "torch_compile_mode": "reduce-overhead"},
        {"torch_compile": True, "torch_compile_mode": "default", "cache_implementation": "static"},
        {"load_in_4bit": True, "bnb_4bit_compute_dtype": "float16"},
        {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
        {"num_threads": 1},
    ],
)
def test_what_may_change_something_stays(options) -> None:
    """The very same object, so that nothing is lost where nothing is to be left out."""
    one = experiment(**options)

    assert canonical(one) is one


def test_greedy_decoding_has_no_seed() -> None:
    """It draws nothing; with a temperature it does. A penalty of 1 and the whole probability are none."""
    assert canonical(experiment({"seed": 3})).sampling == Sampling()
    assert canonical(experiment({"temperature": 1.0, "seed": 3})).sampling.seed == 3
    assert canonical(experiment({"repetition_penalty": 1.0})).sampling == Sampling()
    assert canonical(experiment({"temperature": 1.0, "top_p": 1.0})).sampling.top_p is None


def test_each_canonical_experiment_is_canonical() -> None:
    """Doing it twice changes nothing more."""
    one = canonical(experiment({"seed": 1}, num_beams=1, torch_compile=False))

    assert canonical(one) is one


@pytest.mark.parametrize(
    ("changes", "options", "bits"),
    [
        ({"dtype": "float32"}, {}, 32.0),
        ({"dtype": "bfloat16"}, {"device_map": "cuda:0"}, 16.0),
        ({"dtype": "bfloat16"}, {"load_in_8bit": True}, None),
        ({"dtype": "bfloat16"}, {"device_map": "auto"}, None),
        ({"dtype": "auto"}, {}, None),
    ],
)
def test_bits_of_a_weight(changes, options, bits) -> None:
    """By the dtype; not said where weights are quantised, may lie elsewhere, or have the model's own dtype."""
    one = attrs.evolve(experiment(**options), **changes)

    assert PyTorchBackend(one.options).holding(one, TINY) == Holding(weight_bits=bits)
