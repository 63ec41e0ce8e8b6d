"""The page of a report in a real Chromium: what it shows, how it is used, that it stays by itself."""

from __future__ import annotations

import itertools
import re

import pytest

pytestmark = pytest.mark.process

PHONE = {"viewport": {"width": 390, "height": 844}}
KINDS = ("study", "hostile", "nothing", "unmeasured")
#: Elements that can be used, and their names as assistive software would read them.
UNNAMED = """() => [...document.querySelectorAll('a[href], button, select, input, [role=region], svg[role]')]
  .filter(one => one.getClientRects().length)
  .filter(one => !(one.getAttribute('aria-label') || one.getAttribute('aria-labelledby') || one.textContent.trim()
    || (one.labels && [...one.labels].some(label => label.textContent.trim()))))
  .map(one => one.outerHTML.slice(0, 120))"""
HEADINGS = """() => [...document.querySelectorAll('h1,h2,h3,h4')].filter(one => one.getClientRects().length)
  .map(one => Number(one.tagName[1]))"""


def column(page, number: int) -> list[str]:
    """Texts of one column of the table."""
    return page.locator(f"#table tbody tr > :nth-child({number})").all_inner_texts()


def wide(page) -> int:
    """By how many pixels the body is wider than the screen."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def go_to(page, one: dict) -> None:
    """Change the address to an experiment's, and wait until its page stands there."""
    page.evaluate("id => { location.hash = '#x/' + id }", one["id"])
    page.locator(f"#one code:has-text('{one['name']}')").first.wait_for()


def choice(samples) -> dict:
    document, _ = samples["study"]()
    return next(one for one in document["experiments"] if one["id"] == document["verdict"]["choice"])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_opens_and_every_experiment_of_it(kind, show, samples):
    """Verdict first, all sections drawn, and each experiment's page too; failures and nothing measured included."""
    document, _ = made = samples[kind]()
    page = show(made)

    assert page.locator("#headline").inner_text() != ""
    assert page.evaluate("document.documentElement.dataset.ready") is not None
    for one in document["experiments"]:
        go_to(page, one)
    assert page.evaluate("window.hurt") is None


def test_hostile_names_are_text(show, samples):
    """No element comes of a name; a name that is written from right to left does not turn the figures beside it."""
    page = show(samples["hostile"]())

    assert page.locator("img").count() == 0
    assert page.evaluate("document.scripts.length") == 2 + 6
    assert "<script>window.hurt = 1</script>" in page.inner_text("#table")
    assert "right\\u202eto\\u202cleft" in page.inner_text("#table")
    assert page.locator("figcaption bdi").count() > 0


def test_axes_of_the_trade_off(show, samples):
    """Another metric across redraws the chart; the limit stands where its metric is an axis, and only there."""
    page = show(samples["study"]())
    chart = page.locator("#trade-off svg.chart")

    assert chart.locator("a").count() == 7  # of eight one failed
    assert chart.locator("line.limit").count() == 1
    page.locator("#trade-off select").nth(1).select_option("power_w")
    assert "Mean power, W" in page.locator("#trade-off svg.chart title").text_content()
    assert chart.locator("line.limit").count() == 0
    page.locator("#trade-off button:has-text('Swap')").click()
    assert page.locator("#trade-off select").first.input_value() == "power_w"
    shapes = chart.evaluate("svg => new Set([...svg.querySelectorAll('.dot')].map(one => one.getAttribute('d'))).size")
    assert shapes >= 4  # choice, tie, worse, out and not valid differ in shape, not in colour alone


def test_a_chart_says_what_it_shows_without_being_seen(show, samples):
    """Each point has its values as a name, and the chart its table."""
    page = show(samples["study"]())
    label = page.locator("#trade-off svg.chart a[tabindex='0']").get_attribute("aria-label")

    assert re.search(r"energy per output token \d+\.\d+ ± \d+\.\d+ mJ", label)
    page.locator("#trade-off details summary").click()
    page.locator("#trade-off details tbody tr").nth(6).wait_for()  # filled once the browser tells that it opened
    assert page.locator("#trade-off details tbody tr").count() == 7


def test_sort_and_filter(show, samples):
    """A heading sorts, again the other way, with what has no value last; words and choices filter."""
    page = show(samples["study"]())
    head = page.locator("#table thead button:has-text('W (gpu')")

    head.click()
    watts = [float(text.split()[0]) for text in column(page, 6)[:-1]]
    assert watts == sorted(watts)
    assert page.locator("#table th[aria-sort=ascending]").count() == 1
    page.locator("#table thead button:has-text('W (gpu')").click()
    assert [float(text.split()[0]) for text in column(page, 6)[:-1]] == watts[::-1]
    assert column(page, 6)[-1].startswith("–")
    page.get_by_label("Filter", exact=True).fill("fp8 tied")
    assert page.locator("#table tbody tr").count() == 1
    page.get_by_label("Filter", exact=True).fill("")
    page.get_by_label("State", exact=True).select_option("failed: oom")
    assert page.locator("#table tbody tr").count() == 1
    assert "1 of 8 experiments match." in page.inner_text("#table")


def test_columns_are_chosen(show, samples):
    """A column that is ticked off goes, another comes."""
    page = show(samples["study"]())
    page.locator("#table summary:has-text('Columns')").click()
    page.get_by_label("Trials").check()
    page.get_by_label("Mean power, W (gpu, measured)").uncheck()
    heads = page.locator("#table thead").inner_text()

    assert "Trials" in heads
    assert "W (gpu, measured)" not in heads


def test_an_experiment_by_keyboard_and_back(show, samples):
    """Enter on a point opens its experiment, Escape leads back to the point that led there."""
    page = show(samples["study"]())
    point = page.locator("#trade-off svg.chart a[tabindex='0']")
    first = point.get_attribute("href")
    point.focus()
    page.locator("#tip").wait_for()
    page.keyboard.press("ArrowRight")
    target = page.evaluate("document.activeElement.getAttribute('href')")
    assert target not in (None, first)
    page.keyboard.press("Enter")
    page.locator("#one h1").wait_for()
    assert page.evaluate("document.activeElement.tagName") == "H1"
    assert not page.locator("#overview").is_visible()
    page.keyboard.press("Escape")
    page.locator("#overview").wait_for()
    assert page.evaluate("document.activeElement.getAttribute('href')") == target


def test_an_experiment_at_length(show, samples):
    """Power with window and lead-in, trials to choose, latencies, energies with errors, and what differs."""
    one = choice(samples)
    page = show(samples["study"](), f"#x/{one['id']}")
    page.locator("#one h1").wait_for()
    text, name = page.inner_text("#one"), page.locator("#one h1").inner_text()

    assert page.locator("#one rect.window").count() == 1
    assert page.locator("#one rect.leadin").count() == 2
    assert page.locator("#one path.tick").count() == 1
    page.get_by_label("Trial", exact=True).select_option(index=1)
    assert "trial 1" in page.locator("#one svg.chart title").first.text_content()
    for words in ("What to do: Set duration_s", "4,200 ± 120 J", "p99", "NVIDIA H200", "vllm.quantization"):
        assert words in page.locator("#one").text_content(), words
    assert "dtype" not in page.locator("#one code").all_inner_texts()
    page.get_by_label(re.compile("^all ")).check()
    assert "dtype" in page.locator("#one code").all_inner_texts()
    assert "SOURCES OF ERROR" in text.upper()
    assert page.locator("#one .errors").first.inner_text().split()[0] == "tick"
    page.get_by_text("Next →").click()
    page.wait_for_function("name => document.querySelector('#one h1').innerText !== name", arg=name)
    assert page.locator("#one h1").inner_text() not in text


def test_an_address_of_no_experiment_says_so(show, samples):
    """An id that the report does not have is told, with the way back."""
    page = show(samples["study"](), "#x/" + "%3Cb%3Eno")
    page.locator("#one h1").wait_for()

    assert page.inner_text("#one h1") == "No such experiment"
    page.get_by_text("← All experiments").click()
    page.locator("#overview").wait_for()
    assert page.locator("#overview").is_visible()
    assert not page.locator("#one h1").is_visible()


def test_dark_and_light(show, samples):
    """The page follows the system, and its button turns it."""
    page = show(samples["study"](), color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.get_by_label("Light colours").click()
    light = page.evaluate(ground)

    assert dark != light
    assert sum(map(int, re.findall(r"\d+", dark)[:3])) < 150 < sum(map(int, re.findall(r"\d+", light)[:3]))


def test_print_has_all_rows_and_no_controls(show, samples):
    """On paper stand verdict, charts and every row, in light colours, without what can only be clicked."""
    page = show(samples["study"](120), color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")

    assert page.locator("#table tbody tr").count() == 120
    assert page.locator(".controls:visible, .bar:visible, .pager:visible, button.copy:visible").count() == 0
    assert page.locator("#headline").is_visible()
    assert page.locator("#trade-off svg.chart").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("#table tbody tr").count() == 50


@pytest.mark.parametrize("kind", KINDS)
def test_a_phone_scrolls_one_way(kind, show, samples):
    """On 390 pixels neither the overview nor an experiment is wider than the screen."""
    document, _ = made = samples[kind]()
    page = show(made, **PHONE)

    assert wide(page) <= 0
    for one in document["experiments"][:2]:
        go_to(page, one)
        assert wide(page) <= 0


def test_a_thousand_experiments_stay_light(show, samples):
    """Rows come by page, a point is few elements, details are read when opened: the page has few nodes."""
    document, _ = made = samples["study"](1000)
    page = show(made)

    assert page.locator("#trade-off svg.chart a").count() == 999
    assert page.locator("#table tbody tr").count() == 50
    assert page.evaluate("document.querySelectorAll('*').length") < 12_000
    page.locator("#table button:has-text('Next')").click()
    assert "Page 2 of 20" in page.inner_text("#table")
    page.get_by_label("Filter", exact=True).fill("quantization fp8")
    fp8 = [one for one in document["experiments"] if one["values"]["vllm.quantization"] == "fp8"]
    assert f"{len(fp8)} of 1,000 experiments match." in page.inner_text("#table")


def test_readable_with_scripts_off(show, samples):
    """Without its script the page has the verdict, the warnings, the table and the method."""
    document, _ = made = samples["study"]()
    page = show(made, java_script_enabled=False)

    assert page.inner_text("#headline") == document["verdict"]["sentences"][0]
    assert page.locator("#table tbody tr").count() == 8
    assert "16.90 ± 0.85" in page.inner_text("#table")
    assert page.locator("#method").is_visible()


@pytest.mark.parametrize("where", ["overview", "experiment"])
def test_names_and_headings(where, show, samples):
    """All that can be used has a name, headings skip no level, one is the first, and no id stands twice."""
    page = show(samples["study"](), "" if where == "overview" else f"#x/{choice(samples)['id']}")
    page.locator("#one h1" if where == "experiment" else "#overview").first.wait_for()
    levels = page.evaluate(HEADINGS)

    assert page.evaluate(UNNAMED) == []
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(deeper - before <= 1 for before, deeper in itertools.pairwise(levels))
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(ids) == len(set(ids))


def test_the_tab_key_reaches_everything_once(show, samples):
    """The first stop skips to the verdict; a chart is one stop, whatever its points."""
    page = show(samples["study"]())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    stops = page.evaluate("[...document.querySelectorAll('#trade-off svg a')].filter(one => one.tabIndex === 0).length")

    assert stops == 1
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    page.keyboard.press("Tab")
    assert page.evaluate(outline) != "none"
