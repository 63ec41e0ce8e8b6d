"""Which experiments share a loaded model, and what each is told to run with."""

from __future__ import annotations

import pytest

import llem
from llem.config.load import Layer, resolve
from llem.plugins.registry import registry
from llem.store.store import Store
from llem_pytorch.backend import PyTorchBackend

BASE = {"model": "shape:tiny", "backend": "pytorch", "device": "cpu", "dtype": "float32"}


def key(**settings):
    """The engine's key of an experiment."""
    experiment = resolve([Layer("test", {**BASE, **settings})], registry()).experiment
    return PyTorchBackend(experiment.options).engine_key(experiment)


def test_what_comes_with_a_batch_makes_no_other_engine() -> None:
    """Workload, load and sampling; whatever the model is loaded with does."""
    same = ({"load": {"batch_size": 9}}, {"workload": {"input_tokens": 9}}, {"sampling": {"temperature": 1}})
    other = ({"dtype": "float16"}, {"weights_seed": 1}, {"pytorch": {"attn_implementation": "eager"}})

    assert {key(), *(key(**settings) for settings in same)} == {key()}
    assert len({key(), *(key(**settings) for settings in other)}) == 4


def test_what_is_compiled_is_compiled_for_its_shapes() -> None:
    """torch falls back to slower code after a few of them, which must not depend on what else a study holds."""
    for compiled in ({"torch_compile": True}, {"cache_implementation": "static"}):
        one, other = (key(pytorch=compiled, load={"batch_size": size}) for size in (1, 2))
        assert one != other


@pytest.mark.parametrize("compiled", [{"torch_compile": True}, {"cache_implementation": "static"}])
def test_a_seed_makes_other_shapes_only_where_lengths_are_drawn(compiled) -> None:
    """Experiments that differ in the seed alone share what was compiled."""
    drawn = {"kind": "uniform", "low": 4, "high": 8}
    for lengths, apart in (({"input_tokens": 4, "output_tokens": 4}, 1), ({"input_tokens": drawn}, 2)):
        keys = {key(pytorch=compiled, workload={**lengths, "seed": seed}) for seed in (0, 1)}
        assert len(keys) == apart
    sampled = {key(pytorch=compiled, sampling={"temperature": 1, "seed": seed}) for seed in (0, 1)}
    assert len(sampled) == 1


@pytest.mark.process
def test_each_experiment_has_its_own_effective_configuration(tmp_path) -> None:
    """One model is loaded; what is stored of the generation is of the experiment that it stands with."""
    settings = {"preset": "quick", "window_s": 0.1, "warmup": {"seconds": 0, "batches": 1}, "baseline": {"seconds": 0}}
    base = {**BASE, **settings, "workload": {"input_tokens": 4, "output_tokens": 4}, "load": {"batch_size": 1}}
    study = {"base": base, "axes": {"sampling.temperature": [0, 0.5, 1.5]}, "trials": 2}
    results = llem.run_study(study, tmp_path / "out", launcher="inline")
    store = Store.open(tmp_path / "out")

    assert [result.outcome for result in results.values()] == ["done"] * 3
    assert len(list((store.path / "workers").iterdir())) == 1
    for result in results.values():
        asked, ran = result.config["sampling"]["temperature"], result.effective["generation"]
        assert ran["do_sample"] is (asked > 0)
        assert asked == 0 or ran["temperature"] == asked
