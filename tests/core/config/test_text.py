"""YAML in and out: core scalars of YAML 1.2, no duplicate keys, errors with their place."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llem.config.text import parse_assignment, parse_yaml, read_yaml, to_yaml
from llem.errors import ConfigError


@pytest.fixture
def write(tmp_path):
    """Write bytes or text to a file and return its path."""

    def _write(content):
        path = tmp_path / "study.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return _write


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("-2", -2),
        ("010", 10),
        ("0x10", 16),
        ("0o10", 8),
        ("true", True),
        ("no", "no"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("~", None),
        ("", None),
        ("shape:tiny", "shape:tiny"),
        ("'1'", "1"),
        ("[1, 1e2, {a: b}]", [1, 100.0, {"a": "b"}]),
    ],
)
def test_scalars_follow_yaml_1_2(text, value):
    """Numbers, booleans, nulls and texts are what the core schema of YAML 1.2 says."""
    assert parse_yaml(text) == value
    assert type(parse_yaml(text)) is type(value)


def test_infinity_and_nan_are_numbers_here():
    """They are read as numbers, so that the field they stand in can refuse them by name."""
    assert parse_yaml("-.inf") == float("-inf")
    assert parse_yaml(".nan") != parse_yaml(".nan")


def test_anchors_and_merge_keys_work(write):
    """A file may share parts; a merged key may be overridden without being a duplicate."""
    path = write("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  x: 3\n")

    assert read_yaml(path) == {"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 2}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [1\nb: 2\n", "study.yaml:2:2: "),
        ("load:\n  batch_size: 1\n  batch_size: 2\n", "study.yaml:3:3: key 'batch_size' stands twice"),
        ("a: !!python/object/apply:os.getcwd []\n", "study.yaml:1:4: could not determine a constructor"),
        ("a: &a [*a]\n", "study.yaml:1:4: found unconstructable recursive node"),
        ("a: *nowhere\n", "study.yaml:1:4: found undefined alias 'nowhere'"),
        ("a: 1\n---\nb: 2\n", "study.yaml:2:1: but found another document"),
        ("", "study.yaml is empty, not a mapping"),
        ("# only a comment\n", "study.yaml is empty, not a mapping"),
        ("- 1\n", "study.yaml holds a list, not a mapping"),
        (b"a: \xff\n", "study.yaml is not UTF-8"),
        ("a: \x00\n", "study.yaml:1: a character that YAML does not allow"),
        ("a: " + "[" * 5000, "study.yaml: nested too deeply"),
    ],
)
def test_bad_files_say_where(write, content, message):
    """Each kind of bad file gives one ConfigError with the file and, where there is one, line and column."""
    with pytest.raises(ConfigError) as caught:
        read_yaml(write(content))

    assert message in str(caught.value)


def test_duplicate_key_names_the_first(write):
    """The error says where the key stood before."""
    with pytest.raises(ConfigError, match=r"the first is in line 1"):
        read_yaml(write("model: a\nbackend: x\nmodel: b\n"))


def test_missing_file_and_folder(tmp_path):
    """No file, or a folder in its place, is the user's mistake."""
    with pytest.raises(ConfigError, match="no such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        read_yaml(tmp_path)


def test_byte_order_mark_is_no_content(write):
    """Files saved with a byte order mark are read like others, umlauts included."""
    assert read_yaml(write("\ufeffmodel: ./größe\n")) == {"model": "./größe"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("load.batch_size=8", ("load.batch_size", 8)),
        (" dtype = float16", ("dtype", "float16")),
        ("gpus=[0, 1]", ("gpus", [0, 1])),
        ("workload={kind: file, path: a.txt}", ("workload", {"kind": "file", "path": "a.txt"})),
        ("model=org/name=x", ("model", "org/name=x")),
        ("revision=null", ("revision", None)),
        ("revision='12'", ("revision", "12")),
    ],
)
def test_assignment_is_path_and_yaml_value(text, expected):
    """What follows the first `=` is read as YAML."""
    assert parse_assignment(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("load.batch_size", "write PATH=VALUE"),
        ("=8", "write PATH=VALUE"),
        ("load..x=8", "write PATH=VALUE"),
        ("dtype=", "the setting 'dtype' has no value"),
        ("dtype=#x", "the setting 'dtype' has no value"),
        ("gpus=[0", "--set gpus:1:"),
    ],
)
def test_bad_assignment(text, message):
    """An assignment without path, `=` or value is refused with how to write it."""
    with pytest.raises(ConfigError) as caught:
        parse_assignment(text)

    assert message in str(caught.value)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))


@given(st.dictionaries(texts, values, min_size=1, max_size=4))
def test_written_yaml_reads_back(document):
    """Whatever JSON values a document has, what is written is read back as the same."""
    assert parse_yaml(to_yaml(document, {})) == document


def test_comments_follow_leaves():
    """Each leaf carries the comment of its dotted path; sections carry none."""
    document = {"model": "shape:tiny", "load": {"batch_size": 1, "kind": "no"}, "gpus": None, "x": {}}
    comments = {"model": "flag", "load.batch_size": "default", "load": "unused"}

    assert to_yaml(document, comments) == (
        "model: shape:tiny  # flag\nload:\n  batch_size: 1  # default\n  kind: no\ngpus: null\nx: {}\n"
    )


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a: 1e999", "study.yaml:1:4: 1e999 is beyond any number"),
        ("a: [1, -1.5e400]", "study.yaml:1:8: -1.5e400 is beyond any number"),
        ("a: " + "9" * 4300, "study.yaml:1:4: 99999999999999999999… (4300 characters) is no whole number of 64 bits"),
        ("a: 0x" + "f" * 5000, "study.yaml:1:4: 0xffffffffffffffffff… (5002 characters) is no whole number of 64 bits"),
        ("a: 9223372036854775808", "study.yaml:1:4: 9223372036854775808 is no whole number of 64 bits"),
    ],
)
def test_numbers_that_nothing_computes_with(text, what):
    """Each is told with its place, in few characters, and how to write it as a text."""
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "study.yaml")

    assert caught.value.message == f"{what}; write it in quotes if it is a text"


def test_the_largest_numbers_are_read():
    """What 64 bits hold, with a sign; infinity is a number of YAML, and a setting refuses it."""
    assert parse_yaml("[-9223372036854775808, 9223372036854775807, 0x7fffffffffffffff, 1.7e308, -.INF]") == [
        -(2**63), 2**63 - 1, 2**63 - 1, 1.7e308, -math.inf,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a: !!timestamp x", "could not determine a constructor for the tag 'tag:yaml.org,2002:timestamp'"),
        ("a: !!binary aGk=", "could not determine a constructor for the tag 'tag:yaml.org,2002:binary'"),
        ("a: !!set {b, c}", "could not determine a constructor for the tag 'tag:yaml.org,2002:set'"),
        ("a: !!python/object:os.system x", "could not determine a constructor for the tag"),
        ("a: !!bool x", "neither true nor false"),
        ("a: !!int x", "invalid literal for int()"),
        ("a: !!map x", "no section"),
        ("a: !!seq x", "expected a sequence node, but found scalar"),
        ('a: "\\ud800"', "half of a character (a lone surrogate)"),
    ],
)
def test_tags_that_do_not_fit_and_halves_of_characters(text, what):
    """Each is told with its place."""
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "study.yaml")

    assert caught.value.message.startswith(f"study.yaml:1:4: {what}")
