"""The assembled page of a report, without a browser: what it holds, what it may do, how large its own code is."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import runpy
from html.parser import HTMLParser
from pathlib import Path

import pytest

from llem.reports.page.html import page

SAMPLES = runpy.run_path(str(Path(__file__).parents[3] / "page" / "samples.py"))
KINDS = ("study", "hostile", "nothing", "unmeasured")
ASSETS = Path(__import__("llem.reports.page", fromlist=["page"]).__file__).parent / "assets"


class Read(HTMLParser):
    """Elements, attributes and text of a page as a browser without scripts would have them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self.shown: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in self.inside:
            self.inside[tag].append("")

    def handle_data(self, data):
        if self.cdata_elem:
            self.inside[self.cdata_elem][-1] += data
        else:
            self.shown.append(data)


def written(kind: str) -> str:
    document, details = SAMPLES[kind]()
    return "".join(page(document, details.items()))


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_give_the_documents_back(kind):
    """What stands in the JSON blocks is what was given, whatever it holds; nothing else is in the file's scripts."""
    document, details = SAMPLES[kind]()
    read = Read("".join(page(document, details.items())))
    scripts = [one for tag, one in read.tags if tag == "script"]

    assert [one.get("id") for one in scripts] == ["llem", None, *(f"x-{name}" for name in details)]
    texts = dict(zip([one.get("id") for one in scripts], read.inside["script"], strict=True))
    assert json.loads(texts["llem"]) == document
    for name, one in details.items():
        assert json.loads(texts[f"x-{name}"]) == one


@pytest.mark.parametrize("kind", KINDS)
def test_the_policy_allows_the_pages_own_code_alone(kind):
    """The policy allows no request, and by their hashes this style and this script."""
    read = Read(written(kind))
    [policy] = [one["content"] for tag, one in read.tags if tag == "meta" and "http-equiv" in one]
    own = [next(text for text in read.inside["script"] if '"use strict"' in text), *read.inside["style"]]

    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    for text in own:
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy
    assert [one for _, one in read.tags if any(name.startswith("on") or name == "style" for name in one)] == []
    reach = [one.get("src") or one.get("href") for _, one in read.tags if one.get("src") or one.get("href")]
    assert set(reach) == {"data:,", "#main"}


def test_names_of_others_are_text():
    """Names that are markup make no element, and characters that turn the direction of writing are spelled out."""
    document, details = SAMPLES["hostile"]()
    text = "".join(page(document, details.items()))
    read = Read(text)

    assert "img" not in {tag for tag, _ in read.tags}
    assert "<script>window.hurt = 1</script>" in "".join(read.shown)
    body = text[: text.index('id="llem"')]
    assert re.findall("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", body) == []
    assert r"right\u202eto\u202cleft" in body


def test_readable_without_script():
    """Verdict, warnings, every experiment with its figures, and the method stand in the file as HTML."""
    document, _ = SAMPLES["study"]()
    shown = " ".join("".join(Read(written("study")).shown).split())

    for line in (*document["verdict"]["sentences"], *document["method"]):
        assert line in shown
    assert document["verdict"]["warnings"] == ["the choice is not publishable: short_window"]
    assert "the choice is not publishable: short window" in shown  # the code of a finding in words
    for one in document["experiments"]:
        assert one["name"] in shown
    assert "16.90 ± 0.85" in shown
    assert "energy per output token, mJ" in shown


def test_nothing_measured_is_said():
    """A folder without experiments has no table, and a sentence in its place."""
    text = written("nothing")

    assert "The folder holds no experiment." in text
    assert "<table" not in text


def test_what_is_not_finite_is_refused():
    """NaN is no JSON: a page never holds it, and its maker hears so."""
    document, _ = SAMPLES["study"]()
    document["verdict"]["probability"] = float("nan")

    with pytest.raises(ValueError, match="JSON"):
        list(page(document, []))


def test_own_code_is_small_and_asks_nobody():
    """Less than 150 kB of code beside the data, with no address of another in it, and no way to make markup of text."""
    script, style = ((ASSETS / name).read_text(encoding="utf-8") for name in ("report.js", "report.css"))

    assert len((script + style).encode()) < 150_000
    assert (
        re.findall(
            r"\b(?:innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval|Function\(|fetch|XMLHttp)", script
        )
        == []
    )
    assert set(re.findall(r"https?://[^\"' )]+", script + style)) == {"http://www.w3.org/2000/svg"}
    assert "</script" not in script.lower()
    assert "@import" not in style
    assert "url(" not in style


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_have_contrast(scheme):
    """Text has a contrast of 4.5 to every ground it stands on, marks of charts 3, in light and dark (WCAG 2.2, AA)."""
    style = (ASSETS / "report.css").read_text(encoding="utf-8")
    pairs = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", style)
    colours = {name: both[scheme] for name, *both in pairs}

    for text in ("ink", "muted", "accent", "good", "warn", "bad"):
        for ground in ("bg", "card", "soft"):
            assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    assert _contrast(colours["on-accent"], colours["accent"]) >= 4.5
    for series in ("s0", "s1", "s2", "s3", "s4", "s5"):
        assert _contrast(colours[series], colours["card"]) >= 3, series


def test_the_headline_stands_before_the_sentences_of_the_command():
    """Where a configuration is taken, the verdict in words is the heading, and all sentences stay in the page."""
    document, details = SAMPLES["study"]()
    document["verdict"] |= {"headline": "Take <b>: 74 % likely to be the best", "lead": ["It keeps the limits."]}
    text = "".join(page(document, details.items()))

    assert '<h2 id="headline">Take &lt;b&gt;: 74 % likely to be the best</h2>' in text
    shown = " ".join("".join(Read(text).shown).split())
    places = [shown.index(line) for line in ("It keeps the limits.", *document["verdict"]["sentences"])]
    assert places == sorted(places)
