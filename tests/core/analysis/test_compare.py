"""Comparing two experiments: what is paired, what is pooled, what is assumed, and which verdicts follow."""

from __future__ import annotations

import math
import random

import attrs
import pytest

from llem.analysis.background import Background
from llem.analysis.compare import compare, verdict_of
from llem.analysis.difference import other_places, turns
from llem.analysis.sides import NOT_ABOVE_ZERO, Run, Side, read_side, side_of
from llem.analysis.variance import ASSUMED_FREEDOM, ASSUMED_SD, combined, spread, t_quantile, two_sided
from llem.errors import StoreError
from llem.metrics.catalogue import lower_is_better
from llem.metrics.metric import Basis, Measured
from llem.metrics.result import Place
from llem.metrics.setup import setup_of
from llem.metrics.statistics import holm
from llem.store.store import Store

ENERGY, SPEED = "energy_per_output_token_j", "output_tokens_per_s"
S = 1_000_000_000


def runs(begins, process=0, worker=None, block=None):
    """Trials of 10 s that begin at these seconds, all of one engine process; `block` is that of the first."""
    stamp = "2026-11-24T{:02}:{:02}:{:02}+00:00"
    return tuple(
        Run(
            process,
            worker,
            stamp.format(at // 3600, at // 60 % 60, at % 60),
            at * S,
            (at + 10) * S,
            None if block is None else block + place,
        )
        for place, at in enumerate(begins)
    )


def side(energies, made, **more):
    """An experiment whose only metric is its energy per output token."""
    return Side(made, {ENERGY: energies}, **{"backend": "pytorch", **more})


def alternating(process, count=5, first=0):
    """Trials of A and of B that take turns in one engine process."""
    return [runs(range(first + start, first + start + 40 * count, 40), process, 7 + process) for start in (0, 20)]


def noisy(rng, count, cv=0.01, level=1.0):
    return [level * math.exp(rng.gauss(0, cv)) for _ in range(count)]


# trials that took turns


def test_drift_cancels_between_trials_that_took_turns():
    """A drift of 20 % common to both, 2 % less energy in each pair: the ratio is exact, by the pairs' scatter alone."""
    a, b = alternating(0)
    drift = [1.0, 1.05, 1.1, 1.15, 1.2]
    [one] = compare(side(drift, a), side([0.98 * d for d in drift], b))

    assert (one.method, one.between, one.covers, one.assumed) == ("paired_by_block", "shared", "within one process", ())
    assert one.ratio.value == pytest.approx(0.98)
    assert one.ratio.half_width < 1e-5


def test_pairs_are_found_by_block_in_every_process_whatever_the_numbers():
    """Two processes, and one trial more of A in the first: it has no partner, and the pairs of the second move."""
    first, second = (
        [runs(range(first + start, first + start + 200, 40), p, 7 + p, 0) for start in (0, 20)]
        for p, first in ((0, 0), (1, 1000))
    )
    a = Side((*first[0], *runs([200], 0, 7, 5), *second[0]), {})
    b = Side((*first[1], *second[1]), {})

    assert turns(a, b) == [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (6, 5), (7, 6), (8, 7), (9, 8), (10, 9)]
    logs = [0.0] * 11, [0.01 + 0.001 * (i % 2) for i in range(10)]
    [one] = compare(
        *(attrs.evolve(s, values={ENERGY: list(map(math.exp, v))}) for s, v in zip((a, b), logs, strict=True))
    )
    assert (one.method, one.ratio.n, one.covers) == ("paired_by_block", 10, "over processes")
    assert math.log(one.ratio.value) == pytest.approx(0.0105)


def test_after_a_resume_trials_pair_with_their_own_block():
    """The first process made A0 alone; the second has A1 to A4 and B0 to B4. B0 has no partner, and A1 goes with B1."""
    a = Side((*runs([0], 0, 7, 0), *runs(range(1000, 1160, 40), 1, 8, 1)), {})
    b = Side(runs(range(980, 1180, 40), 0, 8, 0), {})

    assert turns(a, b) == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_without_blocks_trials_pair_by_rank_where_both_have_as_many():
    """A document that does not say how many processes were asked for: of 4 and 5 trials nobody knows which is left."""
    a, b = alternating(0)

    assert turns(Side(a, {}), Side(b, {})) == [(n, n) for n in range(5)]
    assert turns(Side(a[1:], {}), Side(b, {})) == []


def test_a_side_knows_the_block_of_each_trial(make):
    """Trial t of two processes is of block t // 2; without the setting nothing is known."""
    made = trials(make, 400.0)
    known, unknown = (side_of(Measured(setup_of({"config": c}, []), made)) for c in ({"processes": 2}, {}))

    assert [run.block for run in known.runs] == [0, 0, 1, 1, 2]
    assert {run.block for run in unknown.runs} == {None}


def test_one_after_the_other_in_one_process_is_no_pair_and_drift_is_assumed():
    """All of A, then all of B: the process cancels and drift does not, which the interval has and the note says."""
    a, b = (
        side(noisy(random.Random(n), 5, 0.001), runs(range(at, at + 100, 20), 0, 7)) for n, at in ((1, 0), (2, 200))
    )
    [one] = compare(a, b)

    assert (one.method, one.between, one.assumed) == ("trials", "shared", ("drift",))
    assert one.ratio.half_width > t_quantile(ASSUMED_FREEDOM) * ASSUMED_SD * math.sqrt(2) * 0.95
    assert "drift is not separated" in one.notes[0]


@pytest.mark.parametrize("workers", [(7, 7), (7, 8)])
def test_repeats_without_scatter_are_no_certainty(workers):
    """A part in 10^12 is no difference, paired or between processes that agree; a factor of two is one."""
    begins = (range(0, 200, 40), range(20, 220, 40))
    made = [(*runs(at, 0, w), *runs([t + 2000 for t in at], 1, w + 2)) for at, w in zip(begins, workers, strict=True)]
    a, tiny, twice = (side([level] * 10, made[n]) for level, n in ((1.0, 0), (1.0 + 1e-12, 1), (2.0, 1)))
    [no], [yes] = compare(a, tiny), compare(a, twice)

    assert no.between == ("shared" if workers == (7, 7) else "measured")
    assert (no.verdict, no.ratio.p_value) == ("", pytest.approx(1.0, abs=1e-5))
    assert no.probability_better == pytest.approx(0.5, abs=1e-5)
    assert yes.verdict == "worse"
    assert yes.probability_better < 1e-4


# engines of their own


def engines(level, processes, start, rng, sd=0.01, trials=5, number=0):
    """Trials of several engine processes of its own, in blocks of 4000 s."""
    values, made = [], ()
    for process in range(processes):
        mean = level * math.exp(rng.gauss(0, sd))
        values += [mean * math.exp(rng.gauss(0, 0.002)) for _ in range(trials)]
        at = process * 4000 + start
        made += runs(range(at, at + 20 * trials, 20), process, 100 * number + process)
    return side(values, made)


def test_one_process_each_assumes_what_it_does_not_measure():
    """By hand: the variance is that of the trials, 2 x (1 %)^2 between processes, and as much times 200 s / 90 s for
    drift, with Satterthwaite's freedom; the notes say so."""
    logs = [0.0, 0.002, -0.002, 0.001, -0.001]
    a = side([math.exp(v) for v in logs], runs(range(0, 100, 20), 0, 1))
    b = side([math.exp(v + 0.01) for v in logs], runs(range(200, 300, 20), 0, 2))
    [one] = compare(a, b)
    trials = sum(v * v for v in logs) / 4 / 5
    processes, drift = 2 * ASSUMED_SD**2, 2 * ASSUMED_SD**2 * 200 / 90
    total = 2 * trials + processes + drift
    freedom = total**2 / (2 * trials**2 / 4 + (processes**2 + drift**2) / ASSUMED_FREEDOM)

    assert (one.between, one.assumed, one.covers) == (
        "assumed",
        ("processes", "drift"),
        "over processes, by assumption",
    )
    assert one.ratio.p_value == pytest.approx(two_sided(0.01 / math.sqrt(total), freedom))
    assert 0.2 < one.probability_better < 0.5
    assert "a standard deviation of 1% between processes is assumed" in one.notes[0]
    assert "drift is not separated" in one.notes[1]
    assert one.verdict == ""


def test_a_fivefold_difference_is_sure_whatever_is_assumed():
    """One process each, one after the other."""
    a, b = (side(noisy(random.Random(n), 5, 0.01, level), runs(range(at, at + 100, 20), 0, n)) for n, at, level in
            ((1, 0, 1.0), (2, 200, 0.2)))  # fmt: skip
    [one] = compare(a, b)

    assert one.verdict == "better"
    assert one.probability_better > 0.999


def test_the_variance_between_processes_is_pooled_over_the_study():
    """Two processes of each: two degrees of freedom alone, more with the others of the same backend and no others."""
    rng = random.Random(4)
    study = [engines(1.0, 2, 200 * n, rng, number=n) for n in range(6)]
    other = attrs.evolve(engines(1.0, 2, 0, rng, sd=0.5, number=9), backend="vllm")

    assert spread(study[:2], ENERGY, "pytorch", None).freedom == 2
    assert spread([*study, other], ENERGY, "pytorch", None).freedom == 6
    assert spread([*study, other], ENERGY, "pytorch", None).blocked[1] == 5
    alone, [pooled] = compare(*study[:2])[0], compare(*study[:2], None, Background([*study, other]))
    assert (alone.method, alone.between, alone.covers, alone.assumed) == ("processes", "measured", "over processes", ())
    assert pooled.ratio.half_width < alone.ratio.half_width


def test_experiments_of_one_engine_count_once_for_what_varies_between_processes():
    """They share the processes, so that ten of them say no more of these than one."""
    rng = random.Random(5)
    one = engines(1.0, 3, 0, rng)
    shared = [attrs.evolve(one, values={ENERGY: [v * level for v in one.values[ENERGY]]}) for level in (1, 2, 3, 4)]

    found = spread(shared, ENERGY, "pytorch", None)
    assert (found.freedom, found.groups) == (2, 1)
    assert found.variance == pytest.approx(spread([one], ENERGY, "pytorch", None).variance)


def test_configurations_less_steady_than_the_others_are_judged_by_themselves():
    """Ten times the scatter of the study's other experiments: the pooled variance would promise too much."""
    rng = random.Random(6)
    steady = [engines(1.0, 5, 200 * n, rng, sd=0.001, number=n) for n in range(8)]
    wild = [engines(1.0, 5, 200 * n, rng, sd=0.05, number=n) for n in (8, 9)]
    [alone], [among] = compare(*wild), compare(*wild, None, Background([*steady, *wild]))

    assert among.ratio.half_width > 0.7 * alone.ratio.half_width


def test_processes_one_after_the_other_do_not_separate_drift():
    """Both processes of A before both of B: measured, and drift assumed on top."""
    rng = random.Random(7)
    a = engines(1.0, 2, 0, rng)
    b = attrs.evolve(engines(1.0, 2, 0, rng, number=1), runs=engines(1.0, 4, 0, rng, number=1).runs[10:])
    b = attrs.evolve(b, runs=tuple(attrs.evolve(run, process=run.process - 2) for run in b.runs))
    [one] = compare(a, b)

    assert (one.between, one.assumed) == ("measured", ("drift",))


def test_drift_that_is_assumed_grows_with_the_distance():
    """Nine times as far away, three times the deviation: processes that lie next to each other know less of it."""
    level = [1.0, 1.0]
    a, near, far = (side(level, runs((at, at + 90), 0, at)) for at in (0, 100, 900))
    found = [compare(a, one)[0].ratio.half_width / t_quantile(ASSUMED_FREEDOM * share) for one, share in
             ((near, 2), (far, 100 / 82))]  # fmt: skip

    assert found == pytest.approx([ASSUMED_SD * math.sqrt(2 * (1 + d)) for d in (1, 9)], rel=0.02)


def test_in_a_random_order_the_distance_of_a_pair_is_chance():
    """Drift is that of neighbours for every pair, however far apart it came to lie."""
    level = [1.0, 1.0]
    a, near, far = (attrs.evolve(side(level, runs((at, at + 90), 0, at)), shuffled=True) for at in (0, 100, 900))
    found = [compare(a, one)[0].ratio.half_width for one in (near, far)]

    assert found[0] == pytest.approx(found[1])
    assert found[0] / t_quantile(2 * ASSUMED_FREEDOM) == pytest.approx(2 * ASSUMED_SD, rel=0.02)


def test_a_reference_that_spans_both_sides_has_drift_in_its_variance():
    """Measured at the beginning, in the middle and at the end: nothing is assumed on top; before the end, it is."""
    rng = random.Random(9)
    values = noisy(rng, 6, 0.01)

    def reference(begins):
        return side(values, sum((runs((at, at + 20), p, 50 + p) for p, at in enumerate(begins)), ()))

    a, b = (side(noisy(rng, 5, 0.002), runs(range(at, at + 100, 20), 0, n)) for n, at in ((1, 200), (2, 800)))
    [spans], [ends] = (
        compare(a, b, None, Background([reference(begins), a, b])) for begins in ((0, 500, 1000), (0, 200, 400))
    )

    assert (spans.between, spans.assumed, spans.notes) == ("measured", (), ())
    assert (ends.between, ends.assumed) == ("measured", ("drift",))
    assert math.log(ends.ratio.high / ends.ratio.low) != pytest.approx(math.log(spans.ratio.high / spans.ratio.low))


def test_an_experiment_that_is_not_valid_says_nothing_of_the_others():
    """It is no source of the pooled variance, and widens only its own comparisons, where it is less steady."""
    rng = random.Random(10)
    steady = [engines(1.0, 3, 200 * n, rng, sd=0.002, number=n) for n in range(4)]
    wild = engines(1.0, 3, 1000, rng, sd=0.2, number=9)
    study = Background(steady)
    [among], [own] = (compare(steady[0], one, None, study) for one in (steady[1], wild))

    assert study.spread(ENERGY, wild).freedom == 8
    assert among.ratio.half_width < 0.01
    assert own.ratio.half_width > 0.05
    [alone] = compare(*steady[:2], None, Background())
    assert alone.between == "measured"


def test_trials_in_a_process_that_the_other_never_had_are_not_of_common_processes():
    """One trial of A in the process of B, four in its own: the process does not cancel."""
    a = side([1.0] * 5, (*runs([0, 20, 40, 60], 0, 7), *runs([120], 1, 8)))
    b = side([1.01] * 5, runs(range(140, 240, 20), 0, 8))
    c = attrs.evolve(a, runs=(*runs([0, 20], 0, 7), *runs([100, 110, 120], 1, 8)))

    assert (compare(a, b)[0].method, compare(a, b)[0].between) == ("processes", "measured")
    [one] = compare(c, b)
    assert (one.method, one.between, one.ratio.n) == ("trials", "shared", 3)


# boards, scopes, work


BOARD = {name: frozenset({Place((f"GPU-{name}",), ("NVIDIA H200",), "")}) for name in "ab"}
GPU, CPU = Basis("gpu", "measured"), Basis("cpu+dram", "modelled")


def test_another_board_is_warned_of_and_widens_the_interval():
    """A board that reads 3 % high is no verdict: 5 % for the calibration of each is in the interval and in P."""
    rng, made = random.Random(8), alternating(0)
    a, b = (side(noisy(rng, 5, 0.001, level), one, basis=GPU) for level, one in zip((1.0, 1.03), made, strict=True))
    [same] = compare(a, b)
    b = attrs.evolve(b, runs=runs(range(20, 220, 40), 0, 99))
    [other] = compare(attrs.evolve(a, places=BOARD["a"]), attrs.evolve(b, places=BOARD["b"]))

    assert (same.verdict, same.warnings) == ("worse", ())
    assert other.verdict == ""
    assert other.ratio.low < 1 < other.ratio.high
    assert 0.05 < other.probability_better < 0.5
    assert "boards" in other.assumed
    assert "± 5% is assumed for the calibration of each board" in other.notes
    assert "A and B ran in different places (A: GPU-a (NVIDIA H200), B: GPU-b (NVIDIA H200))" in other.warnings[0]


def test_speeds_of_other_boards_and_energies_of_other_machines_have_no_calibration():
    """The component stays, and the note says that it is for what differs between boards, or between machines."""
    made = [runs(range(at, at + 200, 40), 0, at) for at in (7, 27)]
    machines = [frozenset({Place((), (), name)}) for name in ("a", "b")]
    for places, metric, basis, what in (
        ([BOARD["a"], BOARD["b"]], SPEED, None, "boards"),
        (machines, ENERGY, CPU, "machines"),
    ):
        [one] = compare(*(
            Side(runs, {metric: [1.0, 1.1, 0.9, 1.0, 1.0]}, basis, place)
            for runs, place in zip(made, places, strict=True)
        ))  # fmt: skip
        assert what in one.assumed
        assert one.notes[-1].startswith(f"± 5% is assumed for each, by which {what} of one kind differ")
        assert "different places" in one.warnings[0]


def test_two_backends_on_one_machine_ran_in_one_place(tmp_path, make):
    """Their environments differ in what the plugins say; another processor is another place."""
    store = Store.create(tmp_path / "study", {"experiments": []})
    host = {"cpu": "EPYC", "threads": 2, "memory_bytes": 8 * 2**30, "system": "Debian 12"}
    facts = [
        {"host": host, "torch_cuda": None},
        {"host": {**host, "memory_bytes": 8 * 2**30 - 1}},
        {"host": {**host, "cpu": "Xeon"}},
    ]
    made = []
    for name, one in zip(("one", "two", "three"), facts, strict=True):
        document = make.engine_document(cuda=False, environment=store.write_environment(one))
        store.write_experiment(name, make.experiment_document(name))
        store.write_engine(name, document)
        for trial in trials(make, 400.0):
            store.write_trial(attrs.evolve(trial, experiment_id=name), (), ())
        made.append(read_side(store, name))

    assert made[0].places == made[1].places
    assert [str(place) for place in made[2].places] == ["Xeon, 2 threads, 8 GiB, Debian 12"]
    assert (other_places(*made[:2]), other_places(*made[1:])) == (False, True)


def test_energies_of_different_things_are_refused_and_speeds_are_compared_when_asked_for():
    """Both are named; with another metric asked for, energies are left out, and that is said."""
    a, b = (
        attrs.evolve(side([1.0, 1.1], one), basis=basis)
        for one, basis in zip(alternating(0, 2), (GPU, CPU), strict=True)
    )
    a, b = (attrs.evolve(one, values={**one.values, SPEED: [5.0, 6.0]}) for one in (a, b))
    for asked in (None, [ENERGY]):
        with pytest.raises(StoreError, match=r"A: gpu, measured, B: cpu\+dram, modelled") as caught:
            compare(a, b, asked)
        assert (caught.value.code, caught.value.exit_code) == ("energies_differ", 2)
    [speed] = compare(a, b, [ENERGY, SPEED])
    assert speed.metric == SPEED
    assert any("they are left out" in warning for warning in speed.warnings)


def test_other_work_is_told():
    """Joules per token of other lengths are of other work; another seed is the same."""
    a, b = (
        side([1.0, 1.1], one, work={"output_tokens": n, "input_tokens": 8})
        for one, n in zip(alternating(0, 2), (8, 16), strict=True)
    )
    [one] = compare(a, b)

    assert one.warnings == (
        "A and B do different work (output_tokens 8 and 16): their tokens and requests are not the same",
    )


def test_a_fake_gets_neither_a_verdict_nor_a_probability():
    """Its ratio is shown, for it is what was asked."""
    a, b = (
        side([level, level * 1.001], one, backend="echo")
        for level, one in zip((5.0, 1.0), alternating(0, 2), strict=True)
    )
    [one] = compare(a, b)

    assert (one.verdict, one.probability_better, one.probability_flat) == ("", None, None)
    assert "echo is a fake" in one.warnings[0]


def test_a_metric_that_is_0_has_no_ratio_and_is_named():
    """Both have it, so that "no metric in common" would be false; among others it is left out with a warning."""
    made = alternating(0, 3)
    a, b = (
        attrs.evolve(side([1.0, 1.1, 1.2], one), lacking=why)
        for one, why in zip(made, ({}, {SPEED: NOT_ABOVE_ZERO, "power_w": "not every trial has it"}), strict=True)
    )
    a = attrs.evolve(a, values={**a.values, SPEED: [1.0, 1.0, 1.0], "power_w": [1.0, 1.0, 1.0]})

    why = f"{SPEED} has no ratio: a ratio needs values above 0 in every trial"
    with pytest.raises(StoreError, match=why):
        compare(a, b, [SPEED])
    with pytest.raises(StoreError, match="power_w is left out: of B not every trial has it"):
        compare(a, b, ["power_w"])
    for asked in (None, [ENERGY, SPEED]):
        [one] = compare(a, b, asked)
        assert (one.metric, len(one.warnings)) == (ENERGY, 1)
        assert one.warnings[0].startswith(why)


def test_a_side_says_why_it_lacks_a_metric(make):
    """Where no token came there is no speed; energy without a meter was not measured."""
    none = [attrs.evolve(t, output_tokens=0, energies=()) for t in trials(make, 400.0)]
    one = side_of(Measured(setup_of({"config": {}}, []), none))

    assert one.lacking[SPEED] == "not every trial has it"
    assert one.lacking[ENERGY] == "not every trial has it"


# verdicts


def test_one_metric_is_tested_and_duplicates_count_once():
    """J/token and J/request of fixed lengths are one quantity, as are two speeds: each is tested once."""
    rng, (made_a, made_b) = random.Random(11), alternating(0)
    a, b = noisy(rng, 5, 0.002), noisy(rng, 5, 0.002, 0.99)
    speed = noisy(rng, 5, 0.002), noisy(rng, 5, 0.002, 1.002)
    names = {"energy_per_request_j": 128.0, ENERGY: 1.0}

    def made(one, speeds, at):
        values = {name: [v * factor for v in one] for name, factor in names.items()}
        return Side(at, {**values, SPEED: speeds, "requests_per_s": [v / 128 for v in speeds]}, backend="pytorch")

    found = {one.metric: one for one in compare(made(a, speed[0], made_a), made(b, speed[1], made_b))}
    raw = found[ENERGY].ratio.p_value
    assert [one.metric for one in found.values() if one.role == "headline"] == [ENERGY]
    assert found[ENERGY].p_adjusted == raw == pytest.approx(found["energy_per_request_j"].p_adjusted)
    both = holm([raw, found[SPEED].ratio.p_value])
    assert found[SPEED].p_adjusted == found["requests_per_s"].p_adjusted == pytest.approx(both[1])


def test_lengths_that_differ_make_two_quantities():
    """The constant is another one of A than of B, so that the ratios are two questions."""
    made = alternating(0, 3)
    a, b = ([1.0, 1.01, 0.99], [0.98, 0.97, 0.99])
    first = Side(made[0], {ENERGY: a, "energy_per_request_j": [v * 128 for v in a]}, backend="pytorch")
    second = Side(made[1], {ENERGY: b, "energy_per_request_j": [v * 64 for v in b]}, backend="pytorch")
    token, request = compare(first, second)

    assert request.p_adjusted == holm([token.ratio.p_value, request.ratio.p_value])[1]


@pytest.mark.parametrize(
    ("metric", "ratio", "p", "verdict"),
    [
        (ENERGY, 0.9, 0.05, "better"),
        (ENERGY, 1.1, 0.01, "worse"),
        (SPEED, 1.1, 0.01, "better"),
        (SPEED, 1.1, 0.051, ""),
    ],
)
def test_a_verdict_follows_from_its_adjusted_p_alone(metric, ratio, p, verdict):
    """At most 0.05, in the metric's own direction."""
    assert verdict_of(ratio, p, lower=lower_is_better(metric)) == verdict


def test_the_chance_is_shrunk_and_the_flat_one_is_there():
    """Eleven alike configurations make a difference of one less probable; the flat P is half of Student's p."""
    rng, count = random.Random(12), 12
    made = [runs(range(20 * n, 20 * n + 5 * 20 * count, 20 * count), 0, 7) for n in range(count)]
    study = [side(noisy(rng, 5), one) for one in made]
    study[1] = side([v * 0.985 for v in study[0].values[ENERGY]], made[1])
    study[1] = side([v * math.exp(rng.gauss(0, 0.014)) for v in study[1].values[ENERGY]], made[1])
    [one] = compare(study[0], study[1], None, Background(study))

    assert one.probability_flat == pytest.approx(1 - one.ratio.p_value / 2)
    assert 0.5 < one.probability_better < one.probability_flat
    assert one.prior == "a prior estimated from the differences of 12 configurations"
    assert compare(study[0], study[1])[0].prior.startswith("the default prior")


def test_satterthwaite_by_hand():
    """Two equal parts of 4 degrees of freedom have 8 together; a part of nothing does not count."""
    assert combined(0.0, [(1.0, 4.0), (1.0, 4.0), (0.0, 1.0)]).freedom == pytest.approx(8)


# from stored trials


def trials(make, watts, *, offset_s=0, seed=1, spread=0.01, count=5):
    """Trials of 10 s at `watts`, which differ by `spread`; trial i begins `offset_s + i * 60` into an hour."""
    rng, found = random.Random(seed), []
    for index in range(count):
        t0 = (100 + offset_s + 60 * index) * S
        rows = make.trace(watts * (1 + rng.gauss(0, spread)), t0, t0 + 10 * S)
        trial = make.make_trial(index, rows, make.request_rows(index, t0, t0 + 10 * S), t0, t0 + 10 * S)
        minute, second = divmod(offset_s + index * 60, 60)
        found.append(attrs.evolve(trial, started_at=f"2026-11-24T10:{minute:02}:{second:02}+00:00"))
    return found


def compared(a, b):
    """The comparison of trials of two engine processes, by metric."""
    sides = (side_of(Measured(setup_of({"config": {}}, []), one)) for one in (a, b))
    return {one.metric: one for one in compare(*sides)}


def test_a_known_ratio_is_recovered_and_the_cheaper_one_is_named(make):
    """20 % less power at the same speed: the interval covers 0.8, P says that B is better, and so does the verdict."""
    found = compared(trials(make, 500.0), trials(make, 400.0, seed=2, offset_s=300))
    energy = found[ENERGY]

    assert energy.ratio.low < 0.8 < energy.ratio.high
    assert energy.ratio.value == pytest.approx(0.8, rel=0.02)
    assert energy.probability_better > 0.99
    assert (energy.role, energy.verdict) == ("headline", "better")


def test_equal_speed_gives_an_even_chance(make):
    """Where nothing differs, nothing is known: P is one half."""
    speed = compared(trials(make, 500.0), trials(make, 400.0, seed=2, offset_s=1800))[SPEED]

    assert speed.ratio.value == 1.0
    assert speed.probability_better == pytest.approx(0.5)


def test_more_is_better_for_speed(make):
    """P(better) of throughput is the chance of being higher, not lower."""
    slow = [attrs.evolve(t, output_tokens=t.output_tokens // 2 + i) for i, t in enumerate(trials(make, 400.0))]
    speed = compared(slow, trials(make, 400.0, seed=2, offset_s=1800))[SPEED]

    assert speed.probability_better > 0.999
    assert speed.verdict == "better"


def test_one_trial_cannot_be_compared(make):
    """A single trial has no interval, so the message says to measure more."""
    with pytest.raises(StoreError, match="two trials at least") as caught:
        compared(trials(make, 500.0)[:1], trials(make, 400.0))
    assert caught.value.code == "too_few_trials"


def test_metrics_without_a_meter_are_left_out(make):
    """Without energy what remains is speed; nothing is made up."""
    bare = [[attrs.evolve(t, energies=()) for t in trials(make, 400.0, seed=n)] for n in (1, 2)]
    found = compared(*bare)

    assert set(found) == {SPEED, "requests_per_s"}
    assert found[SPEED].role == "headline"


def test_a_side_knows_its_workers_and_boards(make):
    """From the documents of the engines that measured; one that measured nothing has no say."""
    documents = [make.engine_document(process, worker=3 + process) for process in (0, 1)]
    one = side_of(Measured(setup_of({"config": {"backend": "vllm"}}, documents), trials(make, 400.0)), None, documents)

    assert (one.workers, one.backend, one.fake) == ({3}, "vllm", False)
    assert [place.names for place in one.places] == [("NVIDIA H200",)]
