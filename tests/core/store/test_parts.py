"""Some parts of a document are those that reading all of it gives; another layout is read whole."""

from __future__ import annotations

import json

import pytest

from llem.analysis.overview import overviews
from llem.errors import StoreError
from llem.store.documents import with_version
from llem.store.files import to_text
from llem.store.parts import parts_of

DOCUMENT = {
    "config": {"load": {"kind": "open"}, "text": 'a line\n  "valid": true,\nand another'},
    "domains": [{"metrics": {}, "valid": 3}],
    "findings": [],
    "id": "é",
    "metrics": {"a": {"value": 1.5}, "ab": {}, "b": {"a": {"value": 2}, "value": None}},
    "nested": {"deep": {"metrics": {"a": 7}, "valid": 4}, "valid": 5},
    "other": {},
    "valid": False,
}


def test_every_part_of_every_document(store):
    """Each key alone, all together, and each key of each object: what parsing the whole text gives."""
    for path in store.documents():
        text = path.read_text()
        data = json.loads(text)
        assert parts_of(text, dict.fromkeys(data)) == data, path
        for key, value in data.items():
            assert parts_of(text, {key: None}) == {key: value}, path
            if isinstance(value, dict):
                assert parts_of(text, {key: list(value)}) == {key: value}, path
                for one in value:
                    assert parts_of(text, {key: ["", one]}) == {key: {one: value[one]}}, path


def test_a_key_elsewhere_is_not_taken():
    """The same name deeper, in a list, in a text or in another object is another key."""
    text = to_text(DOCUMENT)

    assert parts_of(text, {"valid": None}) == {"valid": False}
    assert parts_of(text, {"metrics": ["a", "deep"], "nested": ["valid"]}) == {
        "metrics": {"a": {"value": 1.5}},
        "nested": {"valid": 5},
    }
    assert parts_of(text, {"other": ["a"], "valid": None}) == {"other": {}, "valid": False}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(DOCUMENT),
        json.dumps(DOCUMENT, indent=4, sort_keys=True) + "\n",
        json.dumps(DOCUMENT, indent="\t", sort_keys=True) + "\n",
        json.dumps(dict(reversed(DOCUMENT.items())), indent=2) + "\n",
        to_text(DOCUMENT)[:-3],
        to_text(DOCUMENT).replace("false", "flase"),
        to_text(DOCUMENT).replace("1.5", "NaN"),
        to_text(DOCUMENT).replace("1.5", "1.5x"),
        to_text({**DOCUMENT, "metrics": ["a"]}),
        to_text({**DOCUMENT, "metrics": None}),
        to_text({"id": "é"}),
        "",
        "{}\n",
    ],
)
def test_what_is_laid_out_differently_or_damaged_is_not_taken(text):
    """Compact, indented by four or by tabs, unsorted, cut off, damaged where it is wanted, without a key."""
    assert parts_of(text, {"id": None, "metrics": ["a"], "valid": None}) is None


def test_a_result_in_another_layout_is_read_whole(store):
    """Whatever the layout, the same overview; damage to what is wanted names the file and the place."""
    path, metrics = store.folder("exp-one") / "result.json", ["output_tokens_per_s"]
    [before] = overviews(store, ["exp-one"], metrics)
    document = json.loads(path.read_text())

    for text in (json.dumps(document), json.dumps(document, indent=4), json.dumps(document, indent=2)):
        path.write_text(text)
        assert list(overviews(store, ["exp-one"], metrics)) == [before]
        assert with_version(path, {"id": None})[0]["id"] == "exp-one"
    path.write_text(to_text(document).replace('"outcome": "done"', '"outcome": done'))
    with pytest.raises(StoreError, match=r"result\.json: not JSON: .* line \d+"):
        list(overviews(store, ["exp-one"], metrics))
