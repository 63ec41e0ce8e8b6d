"""What runs in the windows of a trial where phases are told apart; and a trial with them, run and verified."""

from __future__ import annotations

import itertools
import json
from types import SimpleNamespace

import attrs
import pytest

import llem
from llem.analysis.wall_clock import time_spent
from llem.backends.base import Request
from llem.backends.check import check_backend
from llem.errors import ConfigError
from llem.experiment.contract import hold_phases
from llem.experiment.parts import in_turn, plan_parts, shortened
from llem.metrics.designs import ALL, DESIGNS, FIRST, Pass
from llem.metrics.verify import verify
from llem.plugins.registry import registry
from llem.store.files import DIGEST, write_json
from llem.store.store import Store
from llem.study.plan.schedule import estimate_groups

SECONDS = {FIRST: 0.3, ALL: 2.0}


def batches(*outputs):
    return [[Request(2 * n, (1, 2, 3), count), Request(2 * n + 1, (4, 5), count)] for n, count in enumerate(outputs)]


def run(batch, one):
    return [shortened(request, one) for request in batch]


def test_no_phases_no_parts():
    """A trial is its one window then."""
    assert plan_parts("none", SECONDS, 5, 10.0, 0.5) == []
    assert in_turn([], 1) == [None]


def test_parts_fill_a_window_and_have_leads():
    """5 batches of 0.3 s take 1.5 s, so that seven rounds fill 10 s; 2.3 s for both passes of a batch are one round."""
    first, both = plan_parts("differential", SECONDS, 5, 10.0, 0.5)

    assert (first.name, first.rounds, first.leads) == ("prefill", 7, 2)
    assert (both.name, both.rounds, both.leads) == ("both", 1, 2)
    assert first.seconds == pytest.approx(0.3 * (35 + 4))
    assert both.seconds == pytest.approx(2.3 * (5 + 2))


def test_parts_send_the_prompts_of_the_whole_window():
    """Cut to one output token; a request of one token, and one of none, stay as they are."""
    first, both = plan_parts("differential", SECONDS, 2, 1.0, 0.0)
    whole = batches(8, 1)

    around, cut = first.arranged(whole, run)
    assert [[one.output_tokens for one in batch] for batch in cut] == [[1, 1], [1, 1]] * first.rounds
    assert [[one.token_ids for one in batch] for batch in cut[:2]] == [[r.token_ids for r in b] for b in whole]
    assert [[one.output_tokens for one in batch] for batch in both.arranged(whole, run)[1]] == [
        [1, 1],
        [8, 8],
        [1, 1],
        [1, 1],
    ]
    assert around == both.arranged(whole, run)[0] == []


def test_the_regression_shortens_prompts_and_answers():
    """Prompts from their beginning; one token is left at least. The whole window stands in the middle."""
    passes = {one: 1.0 for parts in DESIGNS["regression"].values() for one in parts}
    plans = plan_parts("regression", passes, 1, 1.0, 0.0)
    [whole] = batches(8)

    ran = {plan.name: plan.arranged([whole], run)[1][0] for plan in plans}
    lengths = {name: [(len(one.token_ids), one.output_tokens) for one in batch] for name, batch in ran.items()}
    assert lengths == {
        "prefill": [(3, 1), (2, 1)],
        "half_prefill": [(2, 1), (1, 1)],
        "half_output": [(3, 4), (2, 4)],
        "half_input": [(2, 8), (1, 8)],
        "halves": [(2, 4), (1, 4)],
    }
    assert ran["halves"][0].token_ids == whole[0].token_ids[:2]
    assert [plan and plan.name for plan in in_turn(plans, 0)].index(None) == 2


def test_a_prompt_of_text_cannot_be_halved():
    """Nobody here knows its tokens."""
    with pytest.raises(ConfigError, match="those of this workload are text"):
        shortened(Request(0, (1, 2), 8, text="Say hello"), Pass(inputs=0.5))


def test_the_order_turns_from_trial_to_trial():
    """So that what drifts along a line is the same for all windows over two trials."""
    plans = plan_parts("differential", SECONDS, 5, 10.0, 0.5)
    names = [[plan.name if plan else "whole" for plan in in_turn(plans, index)] for index in range(3)]
    assert names == [["prefill", "whole", "both"], ["both", "whole", "prefill"], ["prefill", "whole", "both"]]


@pytest.mark.parametrize(("kept", "told"), [(True, "has a prefix cache"), (None, "does not say whether")])
def test_an_engine_that_may_keep_prompts_is_refused(kept, told):
    """A prompt that comes again would cost it next to nothing."""
    engine = SimpleNamespace(keeps_prompts=lambda: kept)
    session = SimpleNamespace(live_engine=engine, experiment=SimpleNamespace(phases="differential"))
    with pytest.raises(ConfigError, match=told) as raised:
        hold_phases(session)
    assert "enable_prefix_caching: false" in raised.value.hint
    session.experiment.phases = "none"
    hold_phases(session)


#: Changes of a part, and the difference that shows each.
CHANGES = {
    "parts[0].energies.steady.node.energy_j": lambda part: part["energies"][0].update(energy_j=1.0),
    "parts[0].batches": lambda part: part.update(rounds=part["rounds"] + 1),
    "parts[0].output_tokens": lambda part: part.update(output_tokens=7),
    "parts[0].name": lambda part: part.update(name="unheard"),
    "parts[0].energies.steady.node.cross_energy_j": lambda part: part.update(t1_ns=part["t1_ns"] - 100_000_000),
}


def echo_of(short, phases):
    """Batches of 8 tokens take 8 steps of equal power, of which the prefill is the first."""
    steady = {"window_s": 0.4, "echo": {"token_seconds": 0.004}, "meters": ["steady"], "trials": 2, "max_trials": 2}
    return {**short, **steady, "phases": phases}


@pytest.mark.process
def test_a_trial_with_parts(lab, short, tmp_path):
    """Windows follow one another, each as long as asked for, with the energy of its own seconds; `verify` finds what is
    changed of a part."""
    result = llem.run(**echo_of(short, "differential"), out=tmp_path / "out")
    store = Store.open(tmp_path / "out")
    trials = store.trials(result.id)

    for trial in trials:
        assert {part.name for part in trial.parts} == {"prefill", "both"}
        for window in (trial, *trial.parts):
            assert window.duration_s >= 0.3
            assert window.energies[0].energy_j == pytest.approx(40.0 * window.duration_s, rel=0.2)
            assert len(window.batch_s) == window.batches
        first, both = trial.part("prefill"), trial.part("both")
        assert first.output_tokens == first.requests == trial.batches * first.rounds
        assert both.output_tokens == both.rounds * (trial.output_tokens + trial.requests)
        assert trial.input_tokens * first.rounds == first.input_tokens
    ordered = [sorted([trial, *trial.parts], key=lambda one: one.t0_ns) for trial in trials]
    assert [[getattr(one, "name", "whole") for one in windows] for windows in ordered] == [
        ["prefill", "whole", "both"],
        ["both", "whole", "prefill"],
    ]
    assert all(a.t1_ns < b.t0_ns for windows in ordered for a, b in itertools.pairwise(windows))
    assert 0 < result["prefill_energy_j"].value < result["decode_energy_j"].value
    assert verify(store) == []
    spent = {part.part: part.seconds for part in time_spent(store, result.id).parts}
    windows = [window.duration_s for trial in trials for window in (trial, *trial.parts)]
    assert spent["window"] == pytest.approx(sum(windows))

    file = store.folder(result.id) / "trial-0.json"
    kept = file.read_bytes()
    for path, change in CHANGES.items():
        data = json.loads(kept)
        data.pop(DIGEST)
        change(data["parts"][0])
        write_json(file, data, replace=True)
        assert path in {one.path for one in verify(store) if one.file.endswith("trial-0.json")}


@pytest.mark.parametrize(("phases", "windows"), [("differential", 3), ("segregated", 3), ("regression", 6)])
def test_a_plan_counts_the_windows(planned, phases, windows):
    """Each trial takes so many times as long, at least."""
    one, parts = (planned(backend="echo", device="cpu", window_s=10, phases=name) for name in ("none", phases))
    longer = estimate_groups([[parts.experiment]]).least_s - estimate_groups([[one.experiment]]).least_s
    assert longer == pytest.approx((windows - 1) * 10 * one.experiment.least_trials)


@pytest.mark.process
def test_decoding_alone(lab, short, tmp_path):
    """Seven steps of eight, from prompts that the windows do not compute."""
    result = llem.run(**echo_of(short, "segregated"), out=tmp_path / "out")
    store = Store.open(tmp_path / "out")

    for trial in store.trials(result.id):
        decode = trial.part("decode")
        assert decode.output_tokens == decode.rounds * (trial.output_tokens - trial.requests)
        assert decode.duration_s >= 0.3
    share = result["decode_energy_j"].value / result["prefill_energy_j"].value
    assert share == pytest.approx(7, rel=0.3)
    assert verify(store) == []


def test_an_engine_that_keeps_no_prompts_cannot_decode_alone(lab, planned):
    """It is told before anything is loaded, with the backends that can."""
    able = planned(backend="echo", device="cpu", phases="segregated").experiment
    with pytest.raises(ConfigError) as raised:
        check_backend(attrs.evolve(able, backend="lab", options=None), None, registry())
    [problem] = raised.value.problems
    assert problem.path == "phases"
    assert "the lab backend does not decode from prompts that were computed before" in problem.message
    assert "echo" in problem.hint
