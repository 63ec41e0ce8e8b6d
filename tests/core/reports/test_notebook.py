"""What a notebook shows: the console's views as HTML in which foreign text is text, and a small static plot."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import attrs
import pytest

import llem
from llem.analysis.collection import Results
from llem.api import load_results  # enters the door that `_repr_html_` goes through
from llem.display import Displayed
from llem.errors import StoreError
from llem.findings import finding
from llem.reports.notebook import ROWS, html
from llem.reports.svg import tradeoff_svg
from llem.reports.tradeoff import drawn_of
from llem.store.models import Quantity
from llem.store.store import Store

ENERGY, SPEED = "energy_per_output_token_j", "output_tokens_per_s"
GPU, CPU = {"scope": "gpu", "kind": "measured"}, {"scope": "cpu+dram", "kind": "modelled"}
AXES = {"load.batch_size": [1, 8, 32]}
HOSTILE = "<script>alert(1)</script>\"'&\x1b[2J"
#: Elements that close themselves, and attributes that a page may hold without loading or running anything.
VOID = {"line", "circle", "br", "hr"}


class Page(HTMLParser):
    """The elements, attributes and text of HTML; fails where an element is not closed in its order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.open += [] if tag in VOID else [tag]

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(self.texts)


def page(shown):
    """The page of an object, which loads and runs nothing."""
    found = Page(shown._repr_html_())
    assert not {"script", "style", "link", "img", "iframe", "a"} & set(found.tags)
    assert not [name for name, _ in found.attributes if name.startswith("on") or name in ("href", "src")]
    assert not [value for _, value in found.attributes if value and "url(" in value]
    return found


def given(point):
    return {"energy": 32.0 / point["load.batch_size"], "speed": 10.0 * point["load.batch_size"], "basis": GPU}


@pytest.fixture
def results(grid_store):
    return load_results(grid_store(AXES, given).path)


def test_a_quantity_is_its_line():
    """With what it rests on; a missing one has the reason in words."""
    measured = Quantity(0.0123, "J", 0.0119, 0.0127, 0.95, 5, 1, "within one process", "student_t", **CPU)

    assert page(measured).text.strip() == "0.0123 J ± 0.0004 (95 %, n = 5, one process), cpu+dram, modelled"
    absent = page(Quantity(None, "J", reason="no_meter")).text
    assert "none (no_meter)" in absent
    assert "No meter covers this quantity" in absent


def test_a_result_has_its_figures_kind_scope_and_findings(results):
    """A finding with its remedy, and whether the result may be relied on."""
    found = (finding("short_window", "the shortest window is 1 s"),)
    text = page(attrs.evolve(results[0], findings=found, valid=False, publishable=False)).text

    assert "pytorch" in text
    assert "not valid" in text
    assert "energy per output token" in text
    assert "gpu · measured · n = 5, one process" in text
    assert "warning short_window: the shortest window is 1 s" in text
    assert "→ " in text


def test_results_are_the_table_of_the_console(results):
    """Rows in the study's order, with the same notes."""
    found = page(results)

    assert found.tags.count("tr") == 4
    assert found.tags.count("th") == 6
    assert "J/output token (gpu, measured)" in found.texts
    assert [one for one in found.texts if re.fullmatch(r"0\d0{6}", one)] == ["02000000", "01000000", "00000000"]
    assert "±: 95 % interval, n = 5, one process; what varies between engine processes is not in it" in found.text
    assert "3 of 3 valid" in found.text


def test_of_very_many_results_the_first_are_shown(grid_store):
    """No more than these are read, and it is said where the others are."""
    count = ROWS + 10
    store = grid_store({"load.batch_size": list(range(1, count + 1))}, given)
    found = page(Results.open(store))

    assert found.tags.count("tr") == ROWS + 1
    assert f"the first {ROWS} of {count}; all are in `results.frame()`" in found.text


def test_no_results_and_a_damaged_store_are_told(grid_store):
    """An error that a user can cause stands in the page; no traceback, and no figure."""
    store = grid_store(AXES, lambda _: None)
    assert "there is no result yet" in page(Results.open(store)).text
    broken = Results(store, ["00" + "0" * 14])
    (store.folder("00" + "0" * 14) / "result.json").write_text("{")
    with pytest.raises(StoreError):
        broken[0]
    assert "llem cannot show this: " in page(broken).text


def test_a_recommendation_has_verdict_table_plot_and_what_it_rests_on(results):
    """The limit is drawn, and each standing that occurs has its colour's name."""
    choice = results.recommend(slo="output_tokens_per_s>50")
    found = page(choice)

    assert "Take 02000000: load.batch_size 32" in found.text
    assert "has the lowest energy per output token" in found.text
    assert "(gpu, measured)" in found.text
    assert found.tags.count("table") == 1
    assert found.tags.count("svg") == 1
    assert found.text.count("output_tokens_per_s>50") >= 2
    assert "rests on: 3 configurations" in found.text
    legend = [one.strip() for one in found.texts if one.strip() in ("take", "tied", "worse", "out")]
    assert legend[-3:] == ["take", "worse", "out"]


def test_nothing_to_take_is_told_in_the_page(results):
    """With the nearest configuration."""
    found = page(results.recommend(slo="output_tokens_per_s>5000"))

    assert "No configuration keeps all limits" in found.text
    assert "nearest: 02000000" in found.text


def test_a_recommendation_without_its_results_is_its_text(results):
    choice = attrs.evolve(results.recommend(), results=None)

    assert "take 0200000000000000" in page(choice).text


def test_a_front_has_its_table_and_plot(results):
    """In its two metrics, of all results of the folder."""
    found = page(results.pareto(ENERGY, SPEED))

    assert "1 of 3 results" in found.text
    assert found.tags.count("svg") == 1
    assert "P(dominated)" in found.texts


def test_a_comparison_has_its_table_and_how_it_was_made(make, tmp_path):
    """It is a list too, as it was."""
    store = Store.create(tmp_path / "two", {"name": "two"})
    for name, power in (("a1", 1.0), ("b2", 1.5)):
        make.fill(store, name, power=power)
    compared = Results.open(store).compare("a1", "b2")
    found = page(compared)

    assert isinstance(compared, list)
    assert repr(compared[0]).startswith("<Comparison energy_per_output_token_j: B / A 1.")
    assert repr(compared[0]).endswith(", B is worse, gpu, measured>")
    assert "A = a1" in found.text
    assert "B / A, 95 %" in found.texts
    assert "tested: energy per output token" in found.text


def test_foreign_text_is_text_everywhere(grid_store):
    """Names of models, axes' values, errors and findings come from files of others."""
    store = grid_store({"model": [HOSTILE, "other"]}, lambda point: {
        "energy": 1.0 + len(point["model"]), "basis": GPU, "config": {"model": point["model"], "dtype": HOSTILE},
    })  # fmt: skip
    results = Results.open(store)
    bad = attrs.evolve(results[1], error=HOSTILE, findings=(finding("short_window", HOSTILE),), outcome=HOSTILE)

    for shown in (results, bad, results.recommend(), results.pareto(ENERGY, SPEED)):
        text = shown._repr_html_()
        assert "<script" not in text
        assert "\x1b" not in text
        assert "<script>alert(1)</script>\"'&\\u001b[2J" in page(shown).text
    assert "<script" not in html(Quantity(None, HOSTILE, reason=HOSTILE, scope=HOSTILE))


# the plot


def test_the_plot_is_well_formed_and_says_what_its_points_are(results):
    """A cross and a dot for each, its figures as a title, names beside them that do not overlap."""
    drawn = drawn_of(results)
    root = ElementTree.fromstring(tradeoff_svg(drawn))
    space = {"svg": "http://www.w3.org/2000/svg"}
    groups = root.findall("svg:g", space)

    assert len(groups) == 3
    assert all(len(one.findall("svg:line", space)) == 2 for one in groups)
    titles = [one.findtext("svg:title", namespaces=space) for one in groups]
    assert titles[-1] == "02000000: batch_size 32\n320.0 ± 3.2 token/s, 1.000 ± 0.010 J"
    assert (
        root.get("aria-label")
        == "3 configurations: J/output token (gpu, measured), logarithmic against output token/s, logarithmic"
    )
    names = [one.text for one in root.findall("svg:text", space)]
    assert {"00000000", "01000000", "02000000"} <= set(names)
    places = [float(one.get(name)) for one in root.iter() for name in ("x1", "x2", "cx", "x") if one.get(name)]
    assert all(0 <= one <= 640 for one in places)


def test_a_thousand_points_stay_small(grid_store):
    """The first are named; all are drawn."""
    store = grid_store({"load.batch_size": list(range(1, 201))}, given)
    text = tradeoff_svg(drawn_of(Results.open(store)))

    assert text.count("<circle") == 200
    assert len(text) < 200 * 700
    assert text.count(">0000000") + text.count(">c") < 40


# the door


@pytest.mark.process
def test_a_notebook_loads_what_draws_when_it_first_shows_something():
    """`import llem` and results load no view; without the library, the display is left to the repr."""
    program = (
        "import sys\n"
        "from llem.store.models import Quantity\n"
        "one = Quantity(2.0, 'J', n=1, method='exact')\n"
        "print(one._repr_html_())\n"
        "import llem.api\n"
        "print('llem.reports.notebook' in sys.modules, '2 J' in one._repr_html_(), 'IPython' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.splitlines() == ["None", "False True False"]


def test_all_that_is_public_and_shown_is_displayed():
    """The classes that the page on notebooks names."""
    for kind in (llem.Quantity, llem.Result, llem.Results, llem.Recommendation):
        assert issubclass(kind, Displayed)
