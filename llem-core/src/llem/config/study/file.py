"""A study file: what all experiments share, and what varies. Reads it and the files it includes; expands nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from llem.config.converter import structure_all
from llem.config.layers import Layer
from llem.config.models import Experiment
from llem.config.study.order import Limits, Order
from llem.config.text import parse_mapping, read_text, to_yaml
from llem.config.words import got
from llem.errors import ConfigError, Problem, nearest
from llem.foreign.secrets import without_known
from llem.plugins.names import STUDY_KEYS

__all__ = [
    "REFERENCE_PROCESSES",
    "STUDY_KEYS",
    "Limits",
    "Order",
    "Stated",
    "StudyFile",
    "is_study",
    "parse_study",
    "read_study",
]

#: Engine processes of a reference, at least: one at the beginning, one in the middle, one at the end.
REFERENCE_PROCESSES = 3
_FIELDS = frozenset(field.name for field in attrs.fields(Experiment))


@attrs.frozen
class Stated:
    """A value of a study file and where it stands: `study.yaml: axes.load.batch_size`."""

    value: Any
    where: str


@attrs.frozen
class StudyFile:
    """A study as asked, with all that it includes.

    Attributes:
        base: settings of every experiment, one layer per file, later ones above.
        axes: dotted path to its values, as written.
        zips: groups of axes that vary together.
        experiments: points listed by hand, in addition to those of the axes.
        exclude: partial points; what matches one is left out.
        reference: a partial point that one point matches, and how many engine processes measure that one.
        parallel: workers at once, each on GPUs of its own.
        texts: name of each file to what it holds, word for word but for secrets: they are stored.
        prefixes: source of a base layer to what stands before a setting's path in its file: "study.yaml: base.".
        beside: sources whose `trials` stands beside `base`, not in it.
    """

    name: str
    base: tuple[Layer, ...]
    axes: Mapping[str, Stated] = attrs.field(factory=dict)
    zips: tuple[Mapping[str, Stated], ...] = ()
    experiments: tuple[Stated, ...] = ()
    exclude: tuple[Stated, ...] = ()
    reference: Stated | None = None
    order: Order = attrs.field(factory=Order)
    limits: Limits = attrs.field(factory=Limits)
    parallel: int = 1
    texts: Mapping[str, str] = attrs.field(factory=dict)
    prefixes: Mapping[str, str] = attrs.field(factory=dict)
    beside: frozenset[str] = frozenset()

    def where(self, problem: Problem) -> str:
        """Where the value that a problem is about stands: file and path in it; for flags, the flag and the setting."""
        prefix = self.prefixes.get(problem.source, f"{problem.source}: " if problem.source else "")
        if problem.path.partition("[")[0] == "trials" and problem.source in self.beside:
            prefix = prefix.removesuffix("base.")
        return f"{prefix}{problem.path}"

    @property
    def single(self) -> bool:
        """Whether it holds one experiment and varies nothing."""
        return not (self.axes or self.zips or self.experiments)


@attrs.frozen
class _Part:
    """One file of a study: its name as shown, its content, and its text."""

    label: str
    source: str
    document: Mapping[str, Any]
    text: str


def is_study(document: Mapping[str, Any]) -> bool:
    """Whether this is a study; else it is the settings of one experiment."""
    return any(key in document for key in STUDY_KEYS if key != "trials")


def read_study(path: str | Path) -> StudyFile:
    """A study, or the settings of one experiment, from a YAML file and the files that it includes.

    Raises:
        ConfigError: a file that cannot be read, that includes itself, or that has what no study has.
    """
    file = Path(path)
    return _merged(list(_read(file, file.parent, ())), file.stem)


def parse_study(document: Mapping[str, Any]) -> StudyFile:
    """A study from a mapping of the same shape; files it includes are found from the current folder."""
    part = _Part("python", "python", document, _written(document))
    return _merged([*_included(part, Path(), Path(), ()), part], "llem")


def _written(document: Mapping[str, Any]) -> str:
    try:
        return to_yaml(document, {})
    except TypeError:  # it holds objects, such as attrs classes in `base`
        return repr(document)


def _read(path: Path, root: Path, above: tuple[Path, ...]) -> Iterator[_Part]:
    """A file after those that it includes, so that it lies above them."""
    here = path.resolve()
    label = os.path.relpath(path, root)
    if here in above:
        ring = [os.path.relpath(one, root.resolve()) for one in (*above[above.index(here) :], here)]
        raise ConfigError(f"{label} includes itself: {' → '.join(ring)}", "remove one of these `includes`")
    text = read_text(path)
    part = _Part(label, f"file {label}", parse_mapping(text, str(path)), text)
    yield from _included(part, path.parent, root, (*above, here))
    yield part


def _included(part: _Part, folder: Path, root: Path, above: tuple[Path, ...]) -> Iterator[_Part]:
    problems, files = [], []
    asked = part.document.get("includes", ())
    base = part.document.get("base")
    named = [(f"includes[{n}]", one) for n, one in enumerate(asked)] if isinstance(asked, (list, tuple)) else None
    for where, name in [*(named or ()), *([("base", base)] if isinstance(base, str) else ())]:
        if not isinstance(name, str) or not (folder / name).is_file():
            what = f"no file {name}" if isinstance(name, str) else f"must be the name of a file, got {got(name)}"
            problems.append(Problem(where, what, f"a path relative to {part.label}"))
        else:
            files.append(folder / name)
    if named is None:
        problems.append(Problem("includes", f"must be a list of files, got {got(asked)}", "write [FILE]"))
    if problems:
        raise _invalid(part, problems)
    for file in files:
        yield from _read(file, root, above)


def _invalid(part: _Part, problems: Sequence[Problem]) -> ConfigError:
    return ConfigError(f"invalid study in {part.source}", problems=tuple(problems))


def _merged(parts: Sequence[_Part], name: str) -> StudyFile:
    """All parts over each other: settings and axes key by key, everything else as the last part states it."""
    study = StudyFile(name, ())
    for part in parts:
        document = part.document
        if not is_study(document):
            study = _with_base(study, part, document, f"{part.label}: ")
            continue
        order, of_order = structure_all(Order, document.get("order", {}), "order")
        limits, of_limits = structure_all(Limits, document.get("limits", {}), "limits")
        if problems := [*_problems(document), *of_order, *of_limits]:
            raise _invalid(part, problems)
        base = document.get("base")
        values = dict(base) if isinstance(base, Mapping) else {}
        if "trials" in document:
            values["trials"] = document["trials"]
            study = attrs.evolve(study, beside=study.beside | {part.source})
        study = _with_base(study, part, values, f"{part.label}: base.")
        study = attrs.evolve(study, name=document.get("name", study.name), **_lists(document, study, part.label))
        if order is not None and "order" in document:
            study = attrs.evolve(study, order=order)
        if limits is not None and "limits" in document:
            study = attrs.evolve(study, limits=limits)
        study = attrs.evolve(study, parallel=document.get("parallel", study.parallel))
    return study


def _with_base(study: StudyFile, part: _Part, values: Mapping[str, Any], prefix: str) -> StudyFile:
    return attrs.evolve(
        study,
        base=(*study.base, Layer(part.source, values)),
        texts={**study.texts, part.label: without_known(part.text, os.environ)},
        prefixes={**study.prefixes, part.source: prefix},
    )


def _lists(document: Mapping[str, Any], study: StudyFile, label: str) -> dict[str, Any]:
    """What a part says of the points."""
    found: dict[str, Any] = {}
    if "axes" in document:
        found["axes"] = {**study.axes, **_axes(document["axes"], f"{label}: axes.")}
    if "zip" in document:
        groups = document["zip"]
        if isinstance(groups, Mapping):
            found["zips"] = (_axes(groups, f"{label}: zip."),)
        else:
            found["zips"] = tuple(_axes(group, f"{label}: zip[{n}].") for n, group in enumerate(groups))
    for key in ("experiments", "exclude"):
        if key in document:
            found[key] = tuple(Stated(entry, f"{label}: {key}[{n}]") for n, entry in enumerate(document[key]))
    if "reference" in document:
        raw = document["reference"]
        found["reference"] = None if raw is None else Stated(raw, f"{label}: reference")
    return found


def _axes(raw: Mapping[Any, Any], prefix: str) -> dict[str, Stated]:
    return {key: Stated(values, f"{prefix}{key}") for key, values in raw.items()}


def _problems(document: Mapping[str, Any]) -> list[Problem]:
    problems = []
    for key in document:
        if key not in STUDY_KEYS:
            near = None if key in _FIELDS else nearest(str(key), STUDY_KEYS)
            hint = f"did you mean {near!r}?" if near else "settings of the experiment go under `base`"
            problems.append(Problem(str(key), "unknown field of a study", hint))
    name, base, parallel = document.get("name", ""), document.get("base", {}), document.get("parallel", 1)
    if type(parallel) is not int or parallel < 1:
        problems.append(Problem("parallel", f"must be a whole number of workers, 1 at least, got {got(parallel)}"))
    if not isinstance(name, str):
        problems.append(Problem("name", f"must be text, got {got(name)}"))
    if not isinstance(base, (Mapping, str)):
        problems.append(Problem("base", f"must be a section or the name of a file, got {got(base)}"))
    elif isinstance(base, Mapping) and "trials" in base and "trials" in document:
        problems.append(Problem("trials", "stands both here and under `base`", "keep one of the two"))
    problems += _axis_problems("axes", document.get("axes", {}))
    groups = document.get("zip", {})
    if isinstance(groups, (list, tuple)):
        for number, group in enumerate(groups):
            problems += _axis_problems(f"zip[{number}]", group)
    else:
        problems += _axis_problems("zip", groups)
    for key in ("experiments", "exclude"):
        problems += _list_problems(key, document.get(key, ()))
    return [*problems, *_reference_problems(document.get("reference"))]


def _axis_problems(path: str, raw: Any) -> Iterator[Problem]:
    if not isinstance(raw, Mapping):
        hint = "such as {load.batch_size: [1, 8, 32]}"
        yield Problem(path, f"must be a section of paths with their values, got {got(raw)}", hint)
        return
    for key in raw:
        if not isinstance(key, str) or not all(key.split(".")):
            yield Problem(f"{path}.{key}", "is no path to a setting", "write a path such as load.batch_size")


def _reference_problems(raw: Any) -> Iterator[Problem]:
    hint = "such as {load.batch_size: 32}"
    if raw is None:
        return
    if not isinstance(raw, Mapping):
        yield Problem("reference", f"must be a section of paths with the values of one point, got {got(raw)}", hint)
    elif not set(raw) - {"processes"}:
        yield Problem("reference", "names no point", hint)
    elif type(number := raw.get("processes", REFERENCE_PROCESSES)) is not int or number < REFERENCE_PROCESSES:
        what = f"must be a whole number of engine processes, {REFERENCE_PROCESSES} at least, got {got(number)}"
        yield Problem("reference.processes", what)


def _list_problems(key: str, raw: Any) -> Iterator[Problem]:
    if not isinstance(raw, (list, tuple)):
        yield Problem(key, f"must be a list of sections, got {got(raw)}", "begin each with `- `")
        return
    for number, entry in enumerate(raw):
        if not isinstance(entry, Mapping):
            yield Problem(f"{key}[{number}]", f"must be a section of paths with their values, got {got(entry)}")
        elif key == "exclude" and not entry:
            yield Problem(f"{key}[{number}]", "is empty, and so would leave out every point", "remove it")
