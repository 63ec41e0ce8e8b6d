"""A recommendation in words: the verdict first, each figure with what it is of, and why the others are out."""

from __future__ import annotations

import json

import attrs
import pytest

from llem.analysis.decision import Contender, Estimated, LimitOutcome, Recommendation, Separation
from llem.analysis.limits import Limit
from llem.analysis.overview import Overview
from llem.reports.decision_tables import render_recommendation
from llem.reports.figures import new_console, percent
from llem.reports.recommendation import document, recommendation_view
from llem.store.files import to_text
from llem.store.models import Quantity

ENERGY = "energy_per_output_token_j"
TPOT = Limit("tpot:p99<50ms", "tpot_p99_s", upper=True, bound=0.05)
GSM8K = Limit("gsm8k>=-0.01", "quality.gsm8k", upper=False, bound=-0.01, against="difference")
A, B, C, D, E = (letter * 16 for letter in "abcde")


def around(value, half):
    return Estimated(value, value - half, value + half)


def tpot(seconds, probability):
    return LimitOutcome(TPOT, around(seconds, 0.0002), probability)


def gsm8k(change, probability):
    return LimitOutcome(GSM8K, around(change, 0.004), probability)


def contender(name, dtype, joules, standing, *limits, probability=0.0, feasible=0.998, excess=None):
    values = {"dtype": dtype, "load.batch_size": 8}
    estimated = None if excess is None else around(excess, 0.01)
    return Contender(name, values, around(joules, 0.0006), probability, feasible, limits, standing, estimated)


CHOICE = contender(A, "bfloat16", 0.0619, "choice", tpot(0.0412, 1.0), gsm8k(-0.002, 0.97), probability=0.87)
TIE = contender(B, "float16", 0.0625, "tie", tpot(0.0402, 1.0), gsm8k(0.001, 1.0), probability=0.13, excess=0.011)
WORSE = contender(C, "float32", 0.093, "worse", tpot(0.0442, 1.0), gsm8k(0.0, 0.999), excess=0.51)
SLOW = contender(D, "int8", 0.05, "out", tpot(0.0612, 0.0), gsm8k(0.0, 0.999), feasible=0.0, excess=-0.2)
WRONG = contender(E, "fp8", 0.04, "out", tpot(0.0412, 1.0), gsm8k(-0.06, 0.02), feasible=0.02, excess=-0.3)


def recommendation(**changes):
    given = {
        "objective": ENERGY,
        "unit": "J",
        "lower_is_better": True,
        "limits": (TPOT, GSM8K),
        "choice": A,
        "probability": 0.87,
        "regret": 0.003,
        "ties": (A, B),
        "guaranteed": (A, B),
        "surest": None,
        "contenders": (CHOICE, TIE, WORSE, SLOW, WRONG),
        "separations": (Separation(B, "processes", 2, 6),),
        "rests_on": ("5 configurations, 4 trials each, over 2 engine processes", "weights are random"),
    }
    return Recommendation(**{**given, **changes})


def overview(name, kind="measured", metric=ENERGY):
    energy = Quantity(0.06, "J", scope="gpu", kind=kind)
    metrics = {ENERGY: energy, metric: energy if metric == ENERGY else Quantity(1.0, "s")}
    return Overview(
        id=name, outcome="done", error=None, trials=4, valid=True, publishable=True, codes=(), errors=(),
        metrics=metrics, backend="vllm", model="shape:tiny", dtype="bfloat16", load={"batch_size": 8}, curve="",
    )  # fmt: skip


def view(found, read=overview, **options):
    return recommendation_view(found, read, **options)


def shown(found, *, width=100, read=overview, **options):
    """The lines that a terminal of this width prints."""
    console = new_console(width=width, highlight=False, color_system=None)
    with console.capture() as printed:
        render_recommendation(view(found, read, **options), console)
    return [line.rstrip() for line in printed.get().splitlines()]


def row(lines, name):
    return next(" ".join(line.split()) for line in lines if line.startswith(f"{name[:8]}  "))


def test_the_verdict_comes_first():
    """What to take, what it costs with its interval and basis, with which probability, the regret, the ties."""
    assert view(recommendation(), folder="out dir/").verdict == (
        "Take aaaaaaaa: dtype bfloat16",
        "  energy per output token: 0.06190 J, 0.06130 to 0.06250 with 95 % (gpu, measured)",
        "  P = 0.87 that it keeps all limits and has the lowest energy per output token of those that do",
        "  P > 0.99 that it keeps all limits",
        "  expected regret 0.30 %: on average another that keeps all limits is better by so much, by 0 where none is",
        "  not told from: bbbbbbbb; one of these 2 is the best with 95 %",
        "  from bbbbbbbb: about 6 processes of each would tell (there are 2)",
        "  to measure it and the runner-up again: "
        "`llem recommend 'out dir/' --slo 'tpot:p99<50ms' --quality 'gsm8k>=-0.01' --confirm 6`",
    )


def test_contenders_stand_in_a_table():
    """The choice first: axes, objective, excess, P, each limit with how surely it is kept, where it stands."""
    lines = shown(recommendation())

    assert row(lines, A) == "aaaaaaaa bfloat16 0.06190 ± 0.00060 – 0.87 41.20 ms (> 0.99) -0.0020 (0.97) take"
    assert (
        row(lines, B) == "bbbbbbbb float16 0.06250 ± 0.00060 1.10 ± 1.00 0.13 40.20 ms (> 0.99) +0.0010 (> 0.99) tied"
    )
    assert " 51.0 ± 1.0 < 0.01 " in row(lines, C)
    assert row(lines, E).endswith(" 41.20 ms (> 0.99) -0.0600 (0.02) out")
    [heading] = [line for line in lines if line.startswith("id ")]
    assert [word for word in heading.split() if "5" in word or "gsm" in word] == ["tpot:p99<50ms", "gsm8k>=-0.01"]


def test_the_table_fits_a_hundred_columns():
    """With a limit; and wherever it does not, no figure is cut."""
    one = [attrs.evolve(one, limits=one.limits[:1]) for one in recommendation().contenders]

    assert max(map(len, shown(recommendation(limits=(TPOT,), contenders=tuple(one)), width=100))) <= 100
    assert "-0.0600 (0.02) out" in row(shown(recommendation(), width=60), E)


def test_only_the_first_are_shown():
    """As many as were asked for, the choice among them; how many more there are is said."""
    lines = shown(recommendation(contenders=(TIE, CHOICE, WORSE)), top=1)

    assert row(lines, A)
    assert not [line for line in lines if line.startswith("bbbbbbbb  ")]
    assert "2 more contenders: `--top N` shows them" in lines


def test_why_the_others_are_out_is_grouped():
    """By the limit that excludes, with the range and how surely; what is worse; what is not ranked, by the reason."""
    other = attrs.evolve(SLOW, id="f" * 16, limits=(tpot(0.17, 0.0), gsm8k(0.0, 0.999)))
    fakes = {"1" * 16: "echo is a fake", "2" * 16: "echo is a fake", "3" * 16: "not valid: energy_suspect"}
    found = recommendation(contenders=(CHOICE, TIE, WORSE, SLOW, WRONG, other), excluded=fakes)

    assert view(found).others == (
        "1 keeps all limits, but is the best with less than 5 %: worse by 51 %",
        "tpot:p99<50ms excludes 2: at 1.22 to 3.4 times the bound, all surely (dddddddd, ffffffff)",
        "gsm8k>=-0.01 excludes 1: at -0.06000, kept with P = 0.02 (eeeeeeee)",
        "not ranked, 2: echo is a fake (11111111, 22222222)",
        "not ranked, 1: not valid: energy_suspect (33333333)",
    )


def test_what_is_not_measured_excludes_with_its_reason():
    """The cell has the code, the line below its meaning; nothing is said of by how much."""
    missing = attrs.evolve(SLOW, limits=(LimitOutcome(TPOT, None, 0.0, "offline_load"), gsm8k(0.0, 0.999)))
    found = recommendation(contenders=(CHOICE, missing), ties=(A,), guaranteed=(A,), separations=())
    lines = shown(found, width=160)

    assert " – (offline_load) 0 (> 0.99) out" in row(lines, D)
    assert [line for line in lines if line.startswith("tpot:p99<50ms excludes 1 without a value: The load is offline")]


def test_a_limit_that_is_broken_less_likely_than_not_still_says_why():
    """A contender that breaks one of two limits in most draws, but each in less than half: the worst one excludes."""
    both = attrs.evolve(SLOW, limits=(tpot(0.049, 0.6), gsm8k(-0.009, 0.7)), feasible=0.4)
    [line] = view(recommendation(contenders=(CHOICE, both))).others

    assert line == "tpot:p99<50ms excludes 1: at 0.98 times the bound, kept with P = 0.60 (dddddddd)"


@pytest.mark.parametrize(
    ("separation", "said"),
    [
        (
            Separation(B, "trials", 5, 24),
            [
                "from bbbbbbbb: about 24 trials in the engine processes that both share would tell (there are 5)",
                "for more trials: `trials: 24` in the study, then `llem run STUDY.yaml -o out --resume`",
            ],
        ),
        (
            Separation(B, "processes", 2, None),
            ["from bbbbbbbb: too alike, not even 1,000 processes would tell them apart; take either"],
        ),
    ],
)
def test_what_would_separate_a_tie(separation, said):
    """How many, and the command where there is something to do."""
    verdict = [line.strip() for line in view(recommendation(separations=(separation,)), folder="out").verdict]

    assert verdict[-len(said) :] == said
    assert not [line for line in verdict if "--confirm" in line]


def test_many_ties_are_counted():
    """Five are named; those that the same would separate share a line, and of three such groups it is said."""
    names = [f"{number:02x}{'0' * 14}" for number in range(9)]
    many = [attrs.evolve(TIE, id=name) for name in names]
    found = recommendation(
        contenders=(CHOICE, *many, WORSE),
        ties=(A, *names),
        separations=tuple(Separation(name, "processes", 2, 9 + max(0, place - 2)) for place, name in enumerate(names)),
    )
    verdict = " | ".join(view(found).verdict)

    assert "not told from: 00000000, 01000000, 02000000, 03000000, 04000000 and 4 more; one of these 10" in verdict
    assert verdict.count("would tell (there are 2)") == 3
    assert "from 00000000, 01000000, 02000000: about 9 processes of each would tell (there are 2)" in verdict
    assert "and 4 more, which `--json` tells" in verdict


def test_a_tie_of_everything_says_so():
    """No list of the best: each may be."""
    found = recommendation(contenders=(CHOICE, TIE, SLOW), separations=())

    assert "  not told from any other (bbbbbbbb): each of these 2 may be the best" in view(found).verdict


def test_no_tie_says_so():
    """And a guaranteed set that differs from the ties is told, with its method."""
    found = recommendation(ties=(A,), guaranteed=(A, B, C), separations=(), probability=1.0)
    verdict = view(found).verdict

    assert "  not tied: it alone is the best with 95 %" in verdict
    assert "  without a prior (Hsu's comparison with the best, 95 %): aaaaaaaa, bbbbbbbb, cccccccc may be the best" in (
        verdict
    )
    assert verdict[2].strip().startswith("P > 0.99 that it keeps all limits and has")


def test_a_surer_one_is_offered():
    """Where the choice keeps its limits with less than 95 %: what it is and by how much it is worse."""
    found = recommendation(surest=B, contenders=(attrs.evolve(CHOICE, feasible=0.9), TIE))

    assert view(found).verdict[-1] == "  surer of the limits (P > 0.99): bbbbbbbb: dtype float16, 1.1 % worse"


def test_without_limits_none_are_spoken_of():
    """Neither in the verdict, nor in the table, nor below it."""
    plain = [attrs.evolve(one, limits=(), feasible=1.0) for one in (CHOICE, TIE, WORSE)]
    found = recommendation(limits=(), contenders=tuple(plain))
    lines = shown(found)

    assert "  P = 0.87 that it has the lowest energy per output token" in lines
    assert "1 is the best with less than 5 %: worse by 51 %" in lines
    assert not [line for line in lines if "limit" in line]


def test_more_is_better():
    """Of a speed the highest is taken."""
    found = recommendation(objective="output_tokens_per_s", unit="token/s", lower_is_better=False, limits=())
    verdict = view(found).verdict

    assert verdict[2] == "  P = 0.87 that it has the highest output tokens/s"
    assert "(gpu, measured)" not in verdict[1]


def test_a_latency_has_one_unit_in_its_column():
    """The heading has it, whatever each value would take alone."""
    times = [attrs.evolve(one, objective=around(v, 0.001), limits=()) for one, v in ((CHOICE, 0.4), (TIE, 0.6))]
    found = recommendation(objective="ttft_p99_s", unit="s", limits=(), contenders=tuple(times))
    lines = shown(found, read=lambda name: overview(name, metric="ttft_p99_s"))

    assert "TTFT p99, ms" in lines[next(n for n, line in enumerate(lines) if line.startswith("id "))]
    assert " 400.0 ± 1.0 " in row(lines, A)
    assert " 600.0 ± 1.0 " in row(lines, B)


def test_one_candidate_is_compared_with_nothing():
    """Its P is only that it keeps the limits; all it sets is told, for nothing varies."""
    found = recommendation(
        contenders=(attrs.evolve(CHOICE, feasible=0.97),), ties=(A,), guaranteed=(A,), separations=(), regret=None
    )
    lines = shown(found)

    assert lines[0] == "Take aaaaaaaa: dtype bfloat16, load.batch_size 8"
    assert lines[2] == "  P = 0.97 that it keeps all limits; nothing else can be ranked, so it is compared with nothing"
    assert not [line for line in lines if "regret" in line or "tied" in line or "told from" in line]
    assert row(lines, A).startswith("aaaaaaaa 0.06190 ± 0.00060 41.20 ms")


def test_modelled_energy_is_labelled_wherever_it_is_ranked():
    """In the value, in the claim and in the heading."""
    lines = shown(recommendation(), width=160, read=lambda name: overview(name, "modelled"))

    assert "(gpu, modelled)" in lines[1]
    assert lines[2].endswith("has the lowest energy per output token (modelled) of those that do")
    heading = next(place for place, line in enumerate(lines) if line.startswith("id "))
    assert "(gpu, modelled)" in " ".join(lines[heading - 1 : heading + 1])


def nothing(**changes):
    out = [
        attrs.evolve(one, standing="out", probability=0.0, feasible=0.0, excess=None, limits=(tpot(v, 0.0), gsm8k(*q)))
        for one, v, q in ((CHOICE, 0.09, (0.0, 0.999)), (TIE, 0.07, (0.0, 0.999)), (WRONG, 0.08, (-0.06, 0.02)))
    ]
    given = {
        "choice": None, "probability": 0.0, "regret": None, "ties": (), "guaranteed": (), "separations": (),
        "contenders": tuple(out), "blocking": TPOT, "nearest": B,
    }  # fmt: skip
    return recommendation(**{**given, **changes})


def test_nothing_feasible_names_the_limit_and_the_nearest():
    """What blocks most, what comes nearest, by how much it misses, and which bound it would keep."""
    found = view(nothing())

    assert found.verdict == (
        "No configuration keeps all limits (3 were looked at)",
        "  tpot:p99<50ms blocks most: 3 of 3 are more likely to break it than to keep it",
        "  nearest: bbbbbbbb: dtype float16",
        "    tpot:p99<50ms: it has 70.00 ms, 1.40 times the bound, kept with P < 0.01",
        "    a bound of 70.20 ms would admit it",
    )
    assert found.rows[0].id == B
    assert found.others[0].startswith("tpot:p99<50ms excludes 3: at 1.40 to 1.80 times the bound, all surely")
    assert "worse by" not in " ".join(shown(nothing()))


def test_nothing_feasible_for_want_of_a_value():
    """A limit on what was not measured says so, and names no bound."""
    offline = LimitOutcome(TPOT, None, 0.0, "offline_load")
    only = attrs.evolve(nothing().contenders[1], limits=(offline,))
    found = view(nothing(limits=(TPOT,), contenders=(only,)))

    assert found.verdict[0] == "No configuration keeps all limits (1 was looked at)"
    assert found.verdict[-1].strip().startswith("tpot:p99<50ms: not known: The load is offline")
    assert "bound" not in found.verdict[-1]


def test_percent_are_whole_from_100_on():
    """As the table has them; below, two digits."""
    assert [percent(share) for share in (0.0234, 0.98, 1.57, 27.82)] == ["2.3 %", "98 %", "157 %", "2,782 %"]


def test_a_share_and_a_change_in_percent():
    """The share of requests, and a loss as a share of the reference's score, are told in percent."""
    kept = Limit("ttft<500ms:0.99", "slo_attainment", upper=False, bound=0.99, each={"ttft_s": 0.5})
    loss = Limit("gsm8k>=-1%", "quality.gsm8k", upper=False, bound=-0.01, against="share")
    one = attrs.evolve(
        CHOICE, limits=(LimitOutcome(kept, around(0.9951, 0.002), 0.98), LimitOutcome(loss, around(-0.004, 0.001), 1.0))
    )
    lines = shown(recommendation(limits=(kept, loss), contenders=(one, attrs.evolve(TIE, limits=one.limits))))

    assert " 99.51 % (0.98) -0.40 % (> 0.99) take" in row(lines, A)


def test_foreign_text_cannot_command_the_terminal():
    """Values of axes, limits and sentences come from files of others: escapes are shown, markup stays text."""
    odd = attrs.evolve(CHOICE, values={"model": "[bold]x\x1b[31m"})
    found = recommendation(contenders=(odd, attrs.evolve(TIE, values={"model": "y"})), rests_on=("\x1b]0;title\x07",))
    text = "\n".join(shown(found, width=160))

    assert "Take aaaaaaaa: model [bold]x\\u001b[31m" in text
    assert "\x1b" not in text
    assert "\x07" not in text


def test_points_without_axes_are_told_in_words():
    """Points listed by hand that set nothing apart: the configuration stands in the table."""
    bare = [attrs.evolve(one, values={}) for one in (CHOICE, TIE)]
    lines = shown(recommendation(contenders=tuple(bare)), width=160)

    assert lines[0] == "Take aaaaaaaa: vllm · shape:tiny · bfloat16 · batch 8"
    assert "configuration" in next(line for line in lines if line.startswith("id "))


def test_only_what_is_shown_is_read():
    """Of ten thousand contenders, five."""
    read = []

    def noted(name):
        read.append(name)
        return overview(name)

    many = tuple(attrs.evolve(WORSE, id=f"{number:016x}") for number in range(1000))
    found = view(recommendation(contenders=(CHOICE, TIE, *many)), noted)

    assert len(read) == len(found.rows) == 5
    assert found.others[0] == "1,000 keep all limits, but are the best with less than 5 % together: worse by 51 %"


def test_json_is_the_class_with_what_was_asked():
    """All contenders, whatever is shown, each limit with its bound, and what energies cover."""
    found = view(recommendation(), top=1)
    told = json.loads(to_text(document(found.found, {"slo": "tpot:p99<50ms", "minimise": None}, found.basis)))

    assert told["asked"] == {"slo": "tpot:p99<50ms", "minimise": None}
    assert told["basis"] == {"scope": "gpu", "kind": "measured"}
    assert told["choice"] == A
    assert [one["id"] for one in told["contenders"]] == [A, B, C, D, E]
    assert told["contenders"][0]["limits"][0]["limit"]["bound"] == 0.05
    assert told["separations"] == [{"other": B, "unit": "processes", "now": 2, "needed": 6}]


def test_what_is_hardly_worse_has_no_figures():
    """Two that are the same but for rounding."""
    same = attrs.evolve(TIE, excess=Estimated(1e-9, -1e-6, 1e-6))
    lines = shown(recommendation(contenders=(CHOICE, same), regret=0.0))

    assert " < 0.01 0.13 " in row(lines, B)
    assert any(line.startswith("  expected regret < 0.01 %") for line in lines)


def test_long_lines_hang():
    """What does not fit goes on two columns further in, so that each sentence is seen to begin."""
    lines = shown(recommendation(), width=60)
    first = next(number for number, line in enumerate(lines) if line.startswith("  P = 0.87"))

    assert lines[first + 1].startswith("    ")
    assert max(map(len, lines[: first + 2])) <= 60


def test_as_text_it_is_the_choice_in_short():
    """For Python: what to take, its value, P, ties, and what it rests on, as of modelled energy."""
    assert str(recommendation()).splitlines() == [
        f"take {A}: dtype bfloat16, load.batch_size 8",
        f"  {ENERGY}: 0.0619 J (0.0613 to 0.0625, 95 %)",
        "  P = 0.87 that it keeps all limits and is the best of those that do",
        f"  tied with: {B}",
        "  5 configurations, 4 trials each, over 2 engine processes",
        "  weights are random",
    ]
    assert str(nothing()) == f"no configuration keeps all limits; tpot:p99<50ms blocks most; nearest: {B}"
