"""Plots for a terminal: axes, configurations in two metrics, power over time, and why there is nothing to draw."""

from __future__ import annotations

import io

import attrs
import pytest

from llem.analysis.collection import Results
from llem.errors import StoreError
from llem.reports.axis import axis_of
from llem.reports.figures import new_console
from llem.reports.plot import render_trade_off
from llem.reports.power import power_of, render_power
from llem.reports.tradeoff import drawn_of, trade_off
from llem.store.models import Quantity

ENERGY, SPEED = "energy_per_output_token_j", "output_tokens_per_s"
GPU, CPU = {"scope": "gpu", "kind": "measured"}, {"scope": "cpu+dram", "kind": "modelled"}
AXES = {"load.batch_size": [1, 8, 32]}


def results(grid_store, joules=(3.0, 2.0, 1.0), speeds=(100.0, 200.0, 300.0), half=0.2, **more):
    def given(point):
        place = AXES["load.batch_size"].index(point["load.batch_size"])
        basis = more.get("bases", (GPU,) * 3)[place]
        valid = more.get("valid", (True,) * 3)[place]
        return {"energy": joules[place], "speed": speeds[place], "basis": basis, "valid": valid}

    return Results.open(grid_store(AXES, given, half))


def printed(draw, width=72, encoding="utf-8", **settings):
    """What `draw(console)` prints."""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, errors="replace", write_through=True)
    draw(new_console(file=file, width=width, height=30, highlight=False, **settings))
    return raw.getvalue().decode(encoding)


def plotted(found, **settings):
    return printed(lambda out: render_trade_off(found, out), **settings)


# axes


@pytest.mark.parametrize(
    ("values", "unit", "texts"),
    [
        ((1.0, 3.0), "J", ["1", "1.5", "2", "2.5", "3"]),
        ((0.0164, 0.0334), "", ["0.02", "0.025", "0.03"]),
        ((0.02, 0.09), "s", ["20", "30", "40", "50", "60", "70", "80", "90"]),
        ((2.0**30, 3 * 2.0**30), "B", ["1", "1.5", "2", "2.5", "3"]),
        ((10_000.0, 99_000.0), "W", ["20,000", "40,000", "60,000", "80,000", "100,000"]),
        ((1.0, 900.0), "W", ["1", "3", "10", "30", "100", "300", "1,000"]),
        ((1.0, 9e6), "W", ["1", "10", "100", "1,000", "10,000", "100,000", "1,000,000", "10,000,000"]),
    ],
)
def test_ticks_are_round_in_the_unit_that_is_shown(values, unit, texts):
    """Also where the unit is a power of two; a wide range is logarithmic."""
    axis = axis_of("it", unit, [(one, None, None) for one in values], most=9)

    assert [text for _, text in axis.ticks] == texts
    assert axis.log == (max(values) > 20 * min(values))
    assert axis.heading.endswith(", logarithmic") == axis.log
    assert all(0 <= axis.at(value) <= 1 for value, _ in axis.ticks)


def test_an_interval_that_is_far_wider_than_the_values_is_cut():
    """It would squeeze the values together. It ends beyond the axis, where a plot draws an arrow."""
    axis = axis_of("it", "W", [(10.0, -1000.0, 1020.0), (11.0, 10.9, 11.1)])

    assert 8.5 < axis.low < 10 < 11 < axis.high < 12.5
    assert (axis.at(-1000.0), axis.at(1020.0)) == (-0.01, 1.01)


def test_values_that_are_all_alike_have_an_axis_and_nothing_seems_negative():
    """Of one point, too."""
    for value in (5.0, 0.0):
        axis = axis_of("it", "W", [(value, None, None)])
        assert axis.low < axis.high
        assert 0 <= axis.at(value) <= 1
        assert len(axis.ticks) > 1
    assert axis_of("it", "W", [(1.0, 0.0, 2.0)]).low == 0.0
    assert axis_of("it", "W", [(-1.0, -2.0, 0.0)]).low < -1.0


# configurations


def test_points_lie_where_their_values_are_with_bars_and_a_legend(grid_store):
    """The cheapest is the lowest and stands first in the legend, named by the beginning of its id."""
    text = plotted(drawn_of(results(grid_store)))
    lines = text.splitlines()
    rows = {letter: next(n for n, line in enumerate(lines) if f"─{letter}─" in line) for letter in "ABC"}

    assert lines[0] == "J/output token (gpu, measured)"
    assert rows["C"] < rows["B"] < rows["A"]
    columns = {letter: lines[row].index(letter) for letter, row in rows.items()}
    assert columns["C"] < columns["B"] < columns["A"]
    for letter, row in rows.items():
        assert lines[row + 1][columns[letter]] in "│┼"
    assert "A  02000000  batch_size 32" in lines
    assert "C  00000000  batch_size 1" in lines
    assert "better: right and down" in lines
    assert "bars: 95 % intervals (n = 5, one process)" in lines
    assert any("output token/s" in line for line in lines)
    assert max(map(len, lines)) <= 72


def test_ascii_where_the_terminal_has_no_more_and_colour_only_where_it_may(grid_store, monkeypatch):
    """NO_COLOR leaves the characters alone."""
    found = drawn_of(results(grid_store))
    text = plotted(found, encoding="ascii")
    assert "-A-" in text
    assert "|" in text
    assert "+--" in text
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" in plotted(found, force_terminal=True, color_system="standard")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in plotted(found, force_terminal=True, color_system="standard")


@pytest.mark.parametrize("width", [20, 40, 80, 300])
def test_a_plot_fits_the_terminal(grid_store, width):
    """To the width that figures need at least, and not over 110 columns."""
    lines = plotted(drawn_of(results(grid_store)), width=width).splitlines()
    plot = lines[: next(n for n, line in enumerate(lines) if line.startswith("A  "))]

    assert max(map(len, plot)) <= max(32, min(width, 110))


def test_an_interval_that_goes_on_beyond_the_plot_has_an_arrow(grid_store):
    text = plotted(drawn_of(results(grid_store, joules=(1.0, 1.1, 1.2), half=5.0)))

    assert "▴" in text
    assert "▾" in text


def test_points_at_one_place_are_all_told(grid_store):
    """Beside each other while there is room; then a star stands for several."""
    store = grid_store(AXES, lambda _: {"energy": 1.0, "speed": 5.0, "basis": GPU})
    text = plotted(drawn_of(Results.open(store)))

    assert any(sorted(line.strip("0123456789. │┤─┼")) == ["A", "B", "C"] for line in text.splitlines())
    drawn = drawn_of(Results.open(store))
    text = plotted(attrs.evolve(drawn, points=(*drawn.points, attrs.evolve(drawn.points[0], id="another"))))
    assert "*: several at one place" in text


def test_more_points_than_letters_are_drawn_without_a_name(grid_store):
    """And counted in the legend."""
    axes = {"load.batch_size": list(range(1, 61))}
    store = grid_store(axes, lambda point: {"energy": 1.0 * point["load.batch_size"], "speed": 5.0, "basis": GPU})
    text = plotted(drawn_of(Results.open(store)))

    assert "•  8 more" in text
    assert text.count("  batch_size ") == 52


def test_energies_of_two_kinds_are_never_in_one_plot(grid_store):
    """Those that most results have are drawn; of the others it is told what they cover."""
    found = drawn_of(results(grid_store, bases=(GPU, CPU, GPU)))

    assert [point.words for point in found.points] == ["batch_size 32", "batch_size 1"]
    assert "not drawn, 1: their energies cover something else (cpu+dram, modelled)" in found.notes
    assert found.y.heading == "J/output token (gpu, measured)"


def test_what_is_not_valid_or_has_no_value_is_told(grid_store):
    """Never drawn as 0."""
    found = drawn_of(results(grid_store, joules=(3.0, None, 1.0), valid=(True, True, False)))

    assert [point.words for point in found.points] == ["batch_size 1"]
    assert "not drawn, 1: not valid" in found.notes
    assert any(note.startswith("not drawn, 1: without a value. No meter") for note in found.notes)


@pytest.mark.parametrize(
    ("more", "metrics", "told"),
    [
        ({"valid": (False,) * 3}, None, "nothing to draw: no result is valid"),
        ({"joules": (None,) * 3}, None, "nothing to draw: no two metrics have values in these results"),
        ({}, (ENERGY, "ttft_s"), "nothing to draw: no valid result has energy_per_output_token_j and ttft_s: "),
    ],
)
def test_where_there_is_nothing_to_draw_it_says_why(grid_store, more, metrics, told):
    """In one line, and no empty axes."""
    text = plotted(drawn_of(results(grid_store, **more), metrics), width=200)

    assert text.startswith(told)
    assert "│" not in text


def test_an_empty_folder_and_an_unknown_metric(grid_store):
    assert trade_off([], {}) == "nothing to draw: there is no result yet"
    with pytest.raises(StoreError) as caught:
        drawn_of(results(grid_store), (ENERGY, "sped"))
    assert caught.value.code == "metric_unknown"


def test_a_decision_colours_points_and_draws_its_limits(grid_store):
    """The choice is named first, whatever is out stands last, and a limit lies at its bound."""
    found = results(grid_store)
    choice = found.recommend(slo="output_tokens_per_s>150")
    drawn = drawn_of(found, decision=choice)

    assert [point.standing for point in drawn.points] == ["choice", "worse", "out"]
    assert drawn.limits == {"x": [(150.0, choice.limits[0].text)], "y": []}
    text = plotted(drawn)
    assert "┊" in text
    assert f"┊  {choice.limits[0].text}" in text
    assert "A  02000000  take  batch_size 32" in text


def test_results_of_a_fake_are_drawn_as_such(grid_store):
    """No direction is called better."""
    store = grid_store(AXES, lambda point: {"energy": 1.0, "speed": point["load.batch_size"], "basis": GPU,
                                            "config": {"backend": "echo"}})  # fmt: skip
    notes = drawn_of(Results.open(store)).notes

    assert any("echo, a fake" in note for note in notes)
    assert not any("better" in note for note in notes)


# power over time


def test_the_power_of_a_counter_is_the_mean_between_its_ticks(store):
    """Of what is measured; a library's energy of the whole window has no power over time."""
    trial = store.trials("exp-one")[0]
    [one] = power_of(trial, store.trace("exp-one", 0))

    assert (one.meter, one.kind, one.counter) == ("nvml", "measured", True)
    watts = [watts for _, _, watts in one.points]
    assert all(590 < one < 610 for one in watts)
    assert one.points[0][0] < trial.duration_s
    assert all(since < until for since, until, _ in one.points)


def test_a_window_is_marked_in_the_trace(store):
    """Its two edges, and the watts between them."""
    text = printed(lambda out: render_power(store, "exp-one", out))

    assert "trial 0 · gpu:GPU-0a1b2c3d · nvml (measured), mean between the counter's" in text
    assert "┊ edges of the window, 10.00 s; between them 6" in text
    marked = [line for line in text.splitlines() if line.count("┊") == 2]
    assert len(marked) > 5
    assert len({line.index("┊") for line in marked}) == 1
    assert any(0x2800 < ord(sign) < 0x2900 for sign in text)
    plain = printed(lambda out: render_power(store, "exp-one", out), encoding="ascii", width=90)
    assert "*" in plain


def test_without_power_over_time_it_says_why(store):
    """No meter at all, or one that gives energies alone."""
    trial = store.trials("exp-one")[0]
    library = tuple(one for one in trial.energies if one.meter != "nvml")

    class Without:
        def __init__(self, *trials):
            self.listed = trials

        def trials(self, _):
            return self.listed

        def trace(self, *_):
            return ()

    def told(*trials):
        return printed(lambda out: render_power(Without(*trials), "exp-one", out), width=200).strip()

    assert told(attrs.evolve(trial, energies=library)) == (
        "nothing to draw: codecarbon gives the energy of a whole window, and no power over time"
    )
    assert told(attrs.evolve(trial, energies=())).startswith("nothing to draw: no meter measured power here")
    assert told() == "nothing to draw: no trial ended"


# the command


def test_show_plots(run_llem, grid_store, store):
    """Two metrics that are named, by short words too; the power of one experiment."""
    grid = results(grid_store).store.path
    done = run_llem("show", grid, "--plot", "--metric", "speed", "--metric", "energy")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith("J/output token (gpu, measured)\n")
    assert "02000000  batch_size 32" in done.stdout
    done = run_llem("show", store.path, "exp", "--plot")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "edges of the window" in done.stdout


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--plot", "--metric", "speed"), "takes two metrics"),
        (("--plot", "--metric", "speed", "--metric", "speed"), "takes two metrics"),
        (("--plot", "--json"), "leave --by"),
        (("--plot", "--time"), "leave --by"),
        (("--plot", "--metric", "sped", "--metric", "energy"), "there is no metric 'sped'"),
    ],
)
def test_what_does_not_go_with_a_plot_is_refused(run_llem, grid_store, options, told):
    done = run_llem("show", results(grid_store).store.path, *options)

    assert done.exit_code == 2
    assert told in " ".join(done.stderr.split())


def test_a_quantity_that_is_drawn_may_lack_its_interval(grid_store):
    """A single trial: the point alone."""
    found = results(grid_store)
    rows = [
        attrs.evolve(row, metrics={
            ENERGY: Quantity(2.0, "J", n=1, processes=1, method="single_trial", **GPU),
            SPEED: Quantity(9.0, "token/s", n=1, processes=1, method="single_trial"),
        })
        for row in found.overviews()
    ][:1]  # fmt: skip
    text = plotted(trade_off(rows, found.study))

    assert "no intervals (n = 1)" in text
    assert "─A" not in text
