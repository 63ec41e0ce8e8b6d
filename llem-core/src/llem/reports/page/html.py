"""The page of a study: one HTML file that needs no network, readable without its script. Pure."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from llem.foreign.shown import visible
from llem.reports.figures import amount
from llem.store.models import Quantity

__all__ = ["page"]

#: Inside a script element no character may begin markup. All that is not ASCII is escaped by `json.dumps` itself.
IN_SCRIPT = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})
CODE = re.compile("`([^`]+)`")


def page(document: Mapping[str, Any], details: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[str]:
    """The HTML of a study, piece by piece: the details of a thousand experiments need not be in memory together.

    Args:
        document: what `llem.reports.page.document` makes. details: by id, what is shown of an experiment alone.

    Raises:
        ValueError: if a number is not finite.
    """
    style, script = (_asset(name) for name in ("report.css", "report.js"))
    yield _head(document, style, script)
    yield '<body><a class="skip" href="#main">Skip to the verdict</a>\n'
    yield '<header class="bar"><div class="wide"><span class="mark">llem</span>'
    yield f'<span id="where">{_text(_what(document))}</span><span id="tools"></span></div></header>\n'
    yield '<main id="main" class="wide" tabindex="-1">\n<div id="overview">\n'
    yield from _verdict(document)
    yield '<div id="charts"></div>\n'
    yield from _table(document)
    yield from _method(document)
    yield '</div>\n<div id="one" hidden></div>\n</main>\n'
    written = f"Written by llem {_text(document.get('llem', ''))}. This file makes no request."
    yield f'<footer class="wide"><p>{written}</p></footer>\n'
    yield _data("llem", document)
    yield f"<script>{script}</script>\n"
    for name, one in details:
        yield _data(f"x-{name}", one)
    yield "</body></html>\n"


def _asset(name: str) -> str:
    return (files("llem.reports.page") / "assets" / name).read_text(encoding="utf-8")


def _text(value: object) -> str:
    """Text of others as HTML: no markup, no control characters, no turned direction of writing."""
    return escape(visible(str(value)).encode("utf-8", "replace").decode("utf-8"))


def _prose(sentence: str) -> str:
    """A sentence of llem's own, which may hold `code`."""
    return CODE.sub(r"<code>\1</code>", _text(sentence.strip()))


def _data(name: str, value: Mapping[str, Any]) -> str:
    """A block of JSON, which the page's script reads by its id."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":")).translate(IN_SCRIPT)
    return f'<script type="application/json" id="{_text(name)}">{text}</script>\n'


def _what(document: Mapping[str, Any]) -> str:
    count = len(document["experiments"])
    return f"{document['title']} · {count:,} experiment{'' if count == 1 else 's'}"


def _head(document: Mapping[str, Any], style: str, script: str) -> str:
    """The head: only the style and the script that stand in the page may run, and nothing may be fetched."""
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">\n'
        f"<title>{_text(document['title'])} · llem report</title>\n<style>{style}</style></head>\n"
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _verdict(document: Mapping[str, Any]) -> Iterator[str]:
    """The decision: a heading, what it means, what speaks against it beside what it rests on, and all of it in full."""
    found = document["verdict"]
    headline, *rest = [line.strip() for line in found["sentences"]] or ["No configuration was chosen"]
    full = found["sentences"] if found.get("headline") else ()
    if full:
        headline, rest = found["headline"], found["lead"]
    yield f'<section id="verdict" class="card" data-outcome="{_text(found["outcome"])}" aria-labelledby="headline">\n'
    yield f'<h1>{_text(document["title"])}</h1>\n<h2 id="headline">{_text(headline)}</h2>\n'
    yield '<div class="halves"><div>\n'
    yield from _list(rest, "plain lead")
    yield '</div><div id="standing"></div></div>\n<div class="halves">\n'
    for heading, lines in (
        ("What speaks against it", found.get("warnings", ())),
        ("Why the others are out", found.get("others", ())),
        ("What it rests on", found.get("restsOn", ())),
    ):
        if lines:
            yield f"<div><h3>{heading}</h3>\n"
            yield from _list([_worded(line, document) for line in lines], "plain")
            yield "</div>\n"
    yield "</div>\n"
    if full:
        yield '<details id="full"><summary>All of it, as <code>llem recommend</code> says it</summary>\n'
        yield from _list(full, "plain")
        own = "The probabilities and the value above weigh all configurations together"
        yield f'<p class="about">{own}; charts and table show what each one measured by itself.</p></details>\n'
    yield "</section>\n"


def _worded(line: str, document: Mapping[str, Any]) -> str:
    """A sentence of llem's with the codes of findings in it in words."""
    for code, one in document["findings"].items():
        line = str(one["title"]).join(re.split(rf"\b{re.escape(code)}\b", line))
    return line


def _list(lines: Sequence[str], kind: str) -> Iterator[str]:
    if lines:
        yield f'<ul class="{kind}">' + "".join(f"<li>{_prose(line)}</li>" for line in lines) + "</ul>\n"


def _table(document: Mapping[str, Any]) -> Iterator[str]:
    """The table of experiments. The script puts its own, which sorts and filters, in the place of this one."""
    yield '<section id="experiments" class="card" aria-labelledby="experiments-h">'
    yield '<h2 id="experiments-h">Experiments</h2>\n'
    metrics = {name: document["metrics"][name] for name in document["columns"] if name in document["metrics"]}
    if not document["experiments"]:
        yield '<p class="none">The folder holds no experiment.</p></section>\n'
        return
    yield '<div id="table"><div class="scroll"><table><thead><tr><th scope="col">Experiment</th>'
    yield "".join(f'<th scope="col" class="n">{_text(_heading(metric))}</th>' for metric in metrics.values())
    yield '<th scope="col">State</th></tr></thead>\n<tbody>'
    for one in document["experiments"]:
        yield f'<tr><th scope="row"><code>{_text(one["name"])}</code> {_text(one["label"])}</th>'
        for name, metric in metrics.items():
            yield f'<td class="n">{_text(_cell(one["m"].get(name), metric))}</td>'
        yield f"<td>{_text(one.get('stateText') or one['state'])}</td></tr>\n"
    yield "</tbody></table></div></div></section>\n"


def _heading(metric: Mapping[str, Any]) -> str:
    """Heading with the unit that the values are shown in."""
    if metric.get("heading") and (metric.get("divisor") or 1.0) == 1.0:
        return str(metric["heading"])
    return f"{metric['label']}, {metric.get('scaledUnit') or metric['unit']}"


def _cell(found: Sequence[float | None] | str | None, metric: Mapping[str, Any]) -> str:
    """Value and interval, as the tables of the terminal have them; a dash where there is none."""
    if found is None or isinstance(found, str) or found[0] is None:
        return "–"
    value, low, high = (*found, None, None)[:3]
    assert value is not None
    return amount(Quantity(value, str(metric["unit"]), low, high), value, metric.get("divisor") or 1.0)


def _method(document: Mapping[str, Any]) -> Iterator[str]:
    yield '<section id="method" class="card" aria-labelledby="method-h"><h2 id="method-h">Method</h2>\n'
    yield '<div id="statement">'
    yield "".join(f"<p>{_prose(line)}</p>" for line in document.get("method", ()))
    yield f'</div>\n<p class="cite">{_text(document.get("cite", ""))}</p></section>\n'
