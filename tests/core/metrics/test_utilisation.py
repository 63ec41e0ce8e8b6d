"""Shares of the peak rates: right, or None with its reason; documents that tell less of the model than today's."""

from __future__ import annotations

import attrs
import pytest

from llem.findings import REASONS
from llem.metrics.catalogue import compute_metrics
from llem.metrics.metric import Measured
from llem.metrics.setup import setup_of

SHARES = ("mfu", "mbu")
COUNTS = ("flops_per_token", "prefill_flops_per_token", "decode_flops_per_token")
#: Fields of an architecture that documents before schema 4 do not have.
LATER = ("windows", "output_parameters", "read_bytes", "experts", "other_products", "unfit")


def found(make, *, engine=None, outputs=64, inputs=128, name="shape:llama-3.1-8b", **sizes):
    """Metrics of one trial; `sizes` change the architecture."""
    t0, t1 = make.window(0)
    trace = make.trace(600.0, t0, t1)
    rows = make.request_rows(0, t0, t1, outputs=outputs, inputs=inputs)
    trial = make.make_trial(0, trace, rows, t0, t1)
    document = make.experiment_document()
    document["model"]["name"] = name
    engine = engine or make.engine_document(architecture=attrs.evolve(make.ARCHITECTURE, **sizes))
    return compute_metrics(Measured(setup_of(document, [engine]), [trial], (), lambda _: rows))


def old(make, effective=None, **sizes):
    """engine-<process>.json as it was before schema 4."""
    document = make.engine_document(architecture=attrs.evolve(make.ARCHITECTURE, **sizes))
    document["architecture"] = {name: value for name, value in document["architecture"].items() if name not in LATER}
    document["effective"] |= effective or {}
    return document


@pytest.mark.parametrize("code", ["speculative", "passes_unknown"])
def test_passes_that_do_not_follow_from_tokens(make, code):
    """Drafted tokens or beams: what a token needs is known, a share of the peak is not, and the reason is told."""
    metrics = found(make, unfit=code)
    assert {metrics[name].reason for name in SHARES} == {code}
    assert code in REASONS
    assert all(metrics[name].value is not None for name in COUNTS)


def test_one_share_may_be_known_without_the_other(make):
    """Products in FP8 have another peak; weights of unknown bytes leave the bandwidth unknown."""
    eight, blind = found(make, other_products=True), found(make, read_bytes=None, weight_bytes=5_600_000_000)
    assert eight["mfu"].reason == blind["mbu"].reason == "format_unknown"
    assert None not in (eight["mbu"].value, blind["mfu"].value)


def test_phases_apart(make):
    """Operations of a prompt's token and of a decoded one; with one output token there is no decoded one."""
    metrics, one = found(make), found(make, outputs=1)
    assert metrics["prefill_flops_per_token"].value < metrics["decode_flops_per_token"].value
    total = 128 * metrics["prefill_flops_per_token"].value + 63 * metrics["decode_flops_per_token"].value
    assert metrics["flops_per_token"].value == pytest.approx(total / 191)
    assert {metrics[name].method for name in COUNTS} == {"exact"}
    assert one["decode_flops_per_token"].reason == "one_output_token"
    assert one["prefill_flops_per_token"].value == one["flops_per_token"].value


def test_a_window_of_the_model_lowers_the_bandwidth(make):
    """At 8k with weights of 1 GB the cache dominates: 1,024 of 8,192 tokens is what a sliding model reads."""
    endless, slides = (found(make, inputs=8192, read_bytes=10**9, windows=windows) for windows in ((), ((1024, 32),)))
    assert endless["mbu"].value / slides["mbu"].value > 1.8
    assert endless["decode_flops_per_token"].value > slides["decode_flops_per_token"].value


def test_old_documents_of_a_shape_count_as_todays(make):
    """A shape's configuration tells its windows, and unquantised weights tell what a pass reads."""
    assert found(make, engine=old(make)) == found(make)


def test_old_documents_of_llama_count_by_its_class(make):
    """Llama has no windows, whatever its name; of another class that is not certain."""
    llama = old(make, {"model_class": "LlamaForCausalLM"})
    vllm = old(make, {"workers": [{"model_class": "LlamaForCausalLM"}]})
    mistral = old(make, {"model_class": "MistralForCausalLM"})
    assert found(make, engine=llama, name="m/l") == found(make, engine=vllm, name="m/l") == found(make)
    for unknown in (mistral, old(make)):
        metrics = found(make, engine=unknown, name="m/l")
        assert {metrics[name].reason for name in (*SHARES, *COUNTS)} == {"architecture_unknown"}


@pytest.mark.parametrize(
    "effective",
    [
        {"speculation": {"by": "prompt_lookup"}},
        {"speculative_config": {"method": "ngram"}},
        {"args": {"speculative_config": {"kind": "NGram"}}},
    ],
)
def test_old_documents_that_speculate(make, effective):
    """What the backends say of drafting in the effective configuration is enough."""
    metrics = found(make, engine=old(make, effective))
    assert {metrics[name].reason for name in SHARES} == {"speculative"}


def test_old_documents_of_quantised_weights(make):
    """4-bit weights beside 16-bit tables are not read in proportion: no bandwidth, but operations."""
    metrics = found(make, engine=old(make, weight_bytes=5_600_000_000))
    assert metrics["mbu"].reason == "format_unknown"
    assert metrics["mfu"].value == found(make)["mfu"].value


@pytest.mark.parametrize(
    "wrong", [{"parameters": 0}, {"layers": 0}, {"windows": [[1024]]}, {"windows": [[0, 3]]}, {"weight_bytes": 0}]
)
def test_sizes_of_an_edited_document(make, wrong):
    """Sizes that no model has are unknown, not an error."""
    engine = make.engine_document()
    engine["architecture"] |= wrong
    assert found(make, engine=engine)["mfu"].reason == "architecture_unknown"
