"""Stores that were changed at random: is every change of meaning found, and does every command end with a message?

    python benchmarks/fuzz_stores.py [MUTATIONS] [SEED] [SECONDS]

Two small studies are measured, one offline with quality and one of serving loads; a third store is one that an older
llem wrote. Each round copies one of the stores, changes the copy in one way, and runs the commands that read stores on
it. `SECONDS` ends it early. Prints a table as JSON, a row for each kind of change, and another one for each in the
store of the older llem:

mutations  copies that were changed
meaning    of these, those in which raw data, or what `show`, `compare` or `recommend` state, are not as they were
found      of these, those in which `llem verify` ended with 1, 2 or 3
missed     those that `llem verify` called identical. Each is listed below the table, but for `forged`, where whoever
           changed a file wrote its line in the journal anew, and for stores of an older llem, which have no journal:
           `llem verify` does not claim to find all of these
hidden     `show` named an experiment no more whose files nobody had changed
bugs       commands that ended with 70, raised, printed a traceback, or sent a command to the terminal
slowest_s  the longest command, in processor time: others may run beside it
most_mib   by how much memory grew at most
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import sys
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from llem.store.files import DIGEST, digest

CORE = Path(__file__).parents[1] / "tests" / "core"
LAB = CORE / "lab"
#: A store that llem wrote at schema 2.
OLDER = CORE / "store" / "schema2" / "serving.tgz"
BASE = """
  backend: lab
  device: cpu
  preset: quick
  window_s: 0.2
  warmup: {seconds: 0}
  baseline: {seconds: 0.3, discard_seconds: 0}
  meters: [steady]
  workload: {input_tokens: 8, output_tokens: 8}
"""
STUDIES = {
    "offline": f"name: offline\nbase:{BASE}  quality: {{evaluator: spelling, tasks: [fruit], force: true}}\n"
    "axes:\n  load.batch_size: [1, 4]\ntrials: 2\n",
    "serving": f"name: serving\nbase:{BASE}  load: {{kind: closed}}\naxes:\n  load.concurrency: [1, 3]\ntrials: 2\n",
}
#: Commands whose answers are the meaning of a store, and others that must end with a message; STORE, A and B stand for
#: the folder and its experiments.
STATING = (
    ("show", "STORE", "--json"),
    ("compare", "STORE", "A", "B", "--json"),
    ("recommend", "STORE", "--maximise", "speed", "--json"),
)
OTHERS = (
    ("show", "STORE"),
    ("show", "STORE", "A"),
    ("show", "STORE", "--time"),
    ("show", "STORE", "--quality"),
    ("show", "STORE", "--by", "AXIS", "--pairs"),
    ("pareto", "STORE", "energy", "speed"),
    ("export", "STORE", "--all"),
    ("export", "STORE", "--format", "leaderboard"),
    ("export", "STORE", "--format", "eee", "-o", "STORE-eee"),
    ("export", "STORE", "--format", "hf", "-o", "STORE-hf"),
    ("report", "STORE", "-o", "STORE.html"),
    ("recommend", "STORE", "--slo", "ttft:p99<500ms"),
    ("bundle", "STORE", "-o", "STORE.tar.gz"),
)
VERIFY = ("verify", "STORE")
#: Goes on with a changed store; it may measure, so every so many rounds.
RESUME, RESUMED = ("run", "STUDY", "-o", "STORE", "--launcher", "inline", "--resume", "-q"), 23
#: How much processor time a command may take, how long it may take beside whatever else runs, and by how much memory
#: may grow.
LONGEST_S, WAITS_S, MOST_MIB = 10, 60, 500
#: The same of a command that measures.
MEASURING_S = 120
FOUND = (1, 2, 3)
#: What a terminal takes for a command. What is exported for other programs goes to a file, with every character.
COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@attrs.frozen
class Base:
    """A store as it was measured: its folder, the study that it is of, its experiments, and what it says."""

    path: Path
    study: Path
    ids: tuple[str, ...]
    axis: str
    says: Mapping[str, Any]
    journals: bool = True


@attrs.frozen
class Ran:
    """One command: its exit code, its answer, the processor time that it took, and what it raised."""

    code: int
    out: str
    seconds: float
    err: str


class Hang(BaseException):
    """A command took too long."""


@contextlib.contextmanager
def lab(folder: Path) -> Iterator[None]:
    """The plugin of the tests, whose backend is no fake by its name, is installed in this process."""
    from llem.plugins.registry import registry

    info = folder / "site" / "llem_lab-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: llem-lab\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[llem]\nlab = llem_lab_hooks\n")
    before = list(sys.path)
    sys.path[:0] = [str(info.parent), str(LAB)]
    registry.cache_clear()
    try:
        yield
    finally:
        sys.path[:] = before
        registry.cache_clear()


def command(words: Sequence[str], longest_s: int = WAITS_S) -> Ran:
    """A command in this process, with a limit of its time."""
    from llem.cli import cli

    def late(*_: Any) -> None:
        raise Hang

    out, err, code = io.StringIO(), io.StringIO(), 0
    handler = signal.signal(signal.SIGALRM, late)
    signal.alarm(longest_s)
    began = time.process_time()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main(list(words), prog_name="llem")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except Hang:
        code = -signal.SIGALRM
    except BaseException as error:  # whatever leaves a command without a message
        code, _ = 70, err.write(f"{type(error).__name__}: {error}")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
    return Ran(code, out.getvalue(), time.process_time() - began, err.getvalue())


def on(base: Base, folder: Path, words: Sequence[str], longest_s: int = WAITS_S) -> Ran:
    """A command on a store that is, or was, `base`."""
    names = {"STUDY": str(base.study), "A": base.ids[0], "B": base.ids[1], "AXIS": base.axis}
    return command([names.get(word, word.replace("STORE", str(folder))) for word in words], longest_s)


def measured(folder: Path) -> dict[str, Base]:
    """Both studies, measured in this process."""
    found = {}
    for name, text in STUDIES.items():
        study, path = folder / f"{name}.yaml", folder / name
        study.write_text(text)
        ran = command(["run", str(study), "-o", str(path), "--launcher", "inline", "-q"], MEASURING_S)
        assert ran.code in (0, 1), ran.err
        document = json.loads((path / "study.json").read_text())
        found[name] = _said(Base(path, study, tuple(document["experiments"]), document["axes"][0], {}))
    return found


def older(folder: Path) -> Base:
    """A store of an older llem, unpacked there."""
    with tarfile.open(OLDER) as archive:
        archive.extractall(folder, filter="data")
    (path,) = (one for one in folder.iterdir() if (one / "study.json").exists())
    study = path / "study.yaml"  # none such: `run` refuses it
    document = json.loads((path / "study.json").read_text())
    return _said(Base(path, study, tuple(document["experiments"]), document["axes"][0], {}, journals=False))


def _said(base: Base) -> Base:
    """With what it says as it is."""
    says = {**raw(base.path), **{" ".join(words): answer(base, base.path, words) for words in STATING}}
    assert on(base, base.path, VERIFY).code == 0
    return attrs.evolve(base, says=says)


def answer(base: Base, folder: Path, words: Sequence[str]) -> Any:
    """What a command states, and that it does."""
    ran = on(base, folder, words)
    return ran.code, ran.out.replace(str(folder), "STORE")


def raw(folder: Path) -> dict[str, Any]:
    """The content of each file that llem reads, as values where it has values."""
    return {
        path.relative_to(folder).as_posix(): _content(path)
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".json", ".jsonl", ".gz", ".sha256")
        and path.name not in ("order.json", "journal.sha256")
        and (path.is_file() or path.is_symlink())
    }


def _content(path: Path) -> Any:
    content = path.read_bytes() if path.is_file() else b"none"
    if len(content) > 2**20:  # a bomb
        return content
    with contextlib.suppress(ValueError, OSError, EOFError, RecursionError, zlib.error):
        if path.suffix == ".gz":
            return gzip.decompress(content)
        if path.suffix == ".json":
            return _told({key: value for key, value in json.loads(content).items() if key != DIGEST})
        return [_told(json.loads(line)) for line in content.splitlines()]
    return content


def _told(value: Any) -> str:
    """Values as text: true and 1, which are the same to Python, are not the same."""
    return json.dumps(value, sort_keys=True)


# what is changed


#: A change of a store: given its folder and a source of chance, it says what it did, or None where it cannot.
Mutation = Callable[[Path, random.Random], str | None]


def files(folder: Path, *endings: str) -> list[Path]:
    """Files of a store by the endings of their names, orders and logs of engines left out."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))
    names = ("order.json", "log.txt")
    return [path for path in found if path.name not in names and path.name.endswith(endings or "")]


def flip_byte(folder: Path, chance: random.Random) -> str:
    path = chance.choice([path for path in files(folder) if path.stat().st_size])
    content = bytearray(path.read_bytes())
    place = chance.randrange(len(content))
    content[place] ^= 1 << chance.randrange(8)
    path.write_bytes(content)
    return f"{path.name} at {place}"


def flip_row(folder: Path, chance: random.Random) -> str:
    """A byte of compressed rows, compressed again."""
    path = chance.choice([path for path in files(folder, ".gz") if gzip.decompress(path.read_bytes())])
    content = bytearray(gzip.decompress(path.read_bytes()))
    place = chance.randrange(len(content))
    content[place] ^= 1 << chance.randrange(8)
    path.write_bytes(gzip.compress(bytes(content)))
    return f"{path.name} at {place}"


def truncate(folder: Path, chance: random.Random) -> str:
    path = chance.choice([path for path in files(folder) if path.stat().st_size])
    length = chance.randrange(path.stat().st_size)
    os.truncate(path, length)
    return f"{path.name} to {length}"


def delete_file(folder: Path, chance: random.Random) -> str:
    path = chance.choice(files(folder))
    path.unlink()
    return path.relative_to(folder).as_posix()


def delete_folder(folder: Path, chance: random.Random) -> str:
    path = chance.choice([folder / "environments", *folder.glob("experiments/*"), folder / "experiments"])
    shutil.rmtree(path)
    return path.relative_to(folder).as_posix()


def delete_trial_and_result(folder: Path, chance: random.Random) -> str:
    """As somebody does who wants a bad trial out of a result; its rows stay in half of the cases."""
    trial = chance.choice(files(folder, *(f"trial-{n}.json" for n in range(9))))
    for path in trial.parent.glob(f"{trial.stem}.*" if chance.random() < 0.5 else trial.name):
        path.unlink()
    (trial.parent / "result.json").unlink()
    return trial.relative_to(folder).as_posix()


def exchange_files(folder: Path, chance: random.Random) -> str:
    """Mostly two of a kind."""
    one = chance.choice(files(folder))
    alike = [path for path in files(folder, one.suffix) if path != one and path.name[:5] == one.name[:5]]
    other = chance.choice(alike or files(folder))
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    return f"{one.relative_to(folder)} and {other.relative_to(folder)}"


def exchange_experiments(folder: Path, chance: random.Random) -> str:
    one, other = sorted(folder.glob("experiments/*"))[:2]
    if chance.random() < 0.5:
        one.rename(aside := one.with_name("aside"))
        other.rename(one)
        aside.rename(other)
        return "folders"
    number = chance.randrange(2)
    names = [f"trial-{number}{end}" for end in (".json", ".power.csv.gz", ".requests.csv.gz")]
    for name in names:
        first, second = (one / name).read_bytes(), (other / name).read_bytes()
        (one / name).write_bytes(second)
        (other / name).write_bytes(first)
    return f"trial {number} of each"


def copy_file(folder: Path, chance: random.Random) -> str:
    """Over one of its kind, or under a new number; its digest stays true."""
    one = chance.choice(files(folder, ".json", ".gz"))
    alike = [path for path in files(folder, one.suffix) if path != one and path.name[:5] == one.name[:5]]
    number = chance.randrange(2, 40)
    other = one.with_name(f"{one.name.split('-')[0]}-{number}{''.join(one.suffixes)}")
    if alike and chance.random() < 0.5:
        other = chance.choice(alike)
    other.write_bytes(one.read_bytes())
    return f"{one.relative_to(folder)} to {other.relative_to(folder)}"


def copy_trial(folder: Path, chance: random.Random) -> str:
    """As another number, with its rows and a document that says so."""
    trial = chance.choice(files(folder, *(f"trial-{n}.json" for n in range(9))))
    number = 2 + chance.randrange(3)
    for path in trial.parent.glob(f"{trial.stem}.*"):
        path.with_name(path.name.replace(trial.stem, f"trial-{number}")).write_bytes(path.read_bytes())
    rewrite(trial.with_name(f"trial-{number}.json"), lambda data: data.update(index=number))
    return f"{trial.relative_to(folder)} to {number}"


def copy_experiment(folder: Path, chance: random.Random) -> str:
    """Under another id, which its documents say in half of the cases."""
    one = chance.choice(sorted(folder.glob("experiments/*")))
    name = f"{chance.getrandbits(64):016x}"
    shutil.copytree(one, other := one.with_name(name))
    if chance.random() < 0.5:
        for path in other.glob("*.json"):
            keys = {"experiment.json": "id", "result.json": "id"}
            key = "experiment_id" if path.name.startswith("trial-") else keys.get(path.name)
            if key is not None:
                rewrite(path, lambda data, key=key: data.update({key: name}))
    return f"{one.name} to {name}"


def odd_file(folder: Path, chance: random.Random) -> str:
    """A link, a folder, a pipe, or nothing at all in the place of a file."""
    path = chance.choice(files(folder))
    kind = chance.choice(["link", "loop", "folder", "pipe", "empty", "zeros", "device"])
    path.unlink()
    if kind == "link":
        path.symlink_to(chance.choice(files(folder)))
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(bytes(1000 if kind == "zeros" else 0))
    return f"{kind} for {path.relative_to(folder)}"


def special_file(folder: Path, chance: random.Random) -> str:
    """A socket, a link that leads out or nowhere, or a file that nobody may read, in the place of a file."""
    path = chance.choice(files(folder))
    kind = chance.choice(["socket", "outside", "nowhere", "unreadable"])
    if kind == "unreadable":  # but by root
        path.chmod(0)
        return f"{kind}: {path.relative_to(folder)}"
    path.unlink()
    if kind == "socket":
        here = Path.cwd()
        os.chdir(path.parent)  # the name of a socket is short
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
        os.chdir(here)
    else:
        path.symlink_to("/etc/passwd" if kind == "outside" else "nowhere")
    return f"{kind} for {path.relative_to(folder)}"


def bomb(folder: Path, chance: random.Random) -> str:
    """Two to four MiB that unpack to 4 GiB, in the place of rows."""
    path = chance.choice(files(folder, ".gz"))
    head = chance.choice([b"", gzip.decompress(path.read_bytes())])
    piece = chance.choice([bytes(2**24), b"1,2\n" * 2**22, b"[" * 2**24])
    path.write_bytes(gzip.compress(head) + 256 * gzip.compress(piece, compresslevel=9))
    return f"{piece[:4]!r} in {path.relative_to(folder)}"


def renamed(folder: Path, chance: random.Random) -> str:
    """A file or a folder under a name that is long, no text, or a command to a terminal."""
    path = chance.choice([*files(folder), *folder.glob("experiments/*"), folder / "environments"])
    stem = chance.choice([b"a" * 200, b"\x1b[31mred", b"\xff\xfe", b"..x", b"a\nb", b"=1+1", b"0" * 16, b"Trial-0"])
    name = stem + b"".join(os.fsencode(one) for one in path.suffixes)
    os.rename(path, os.path.join(os.fsencode(path.parent), name))
    return f"{path.relative_to(folder)} to {name!r}"


def of_another_study(folder: Path, chance: random.Random) -> str | None:
    """A file of the other store in the place of one of its kind."""
    others = [path for path in folder.parent.iterdir() if (path / "study.json").exists() and path != folder]
    one = chance.choice(files(folder))
    alike = [
        path
        for other in others
        for path in files(other, one.suffix)
        if path.name[:6] == one.name[:6] and path.read_bytes() != one.read_bytes()
    ]
    if not alike:
        return None
    other = chance.choice(alike)
    one.write_bytes(other.read_bytes())
    return f"{other.parent.name}/{other.name} to {one.relative_to(folder)}"


def study_list(folder: Path, chance: random.Random) -> str:
    """The experiments that study.json lists: one gone, one more, another order, or what they set exchanged."""
    way = chance.choice(["gone", "added", "doubled", "order", "points", "no list", "no points"])

    def change(data: dict[str, Any]) -> None:
        listed, points = data["experiments"], data["points"]
        if way == "gone":
            points.pop(listed.pop(chance.randrange(len(listed))))
        elif way == "added":
            points[name := f"{chance.getrandbits(64):016x}"] = points[listed[0]]
            listed.append(name)
        elif way == "doubled":
            listed.append(listed[0])
        elif way == "order":
            listed.reverse()
        elif way == "points":
            points[listed[0]], points[listed[1]] = points[listed[1]], points[listed[0]]
        else:
            del data["experiments" if way == "no list" else "points"]

    rewrite(folder / "study.json", change)
    return way


def types(folder: Path, chance: random.Random) -> str:
    """Values of another type: one, or all of a kind in a document."""
    path = chance.choice([*files(folder, ".json"), *files(folder, "result.json"), *files(folder, "result.json")])
    data = json.loads(path.read_text())
    ways: dict[str, tuple[type | tuple[type, ...], Callable[[Any], Any]]] = {
        "numbers to texts": ((int, float), str),
        "texts to numbers": (str, len),
        "numbers to true": ((int, float), bool),
        "true to numbers": (bool, int),
        "texts to halves": (str, lambda text: f"{text}\ud83d"),
        "texts to commands": (str, lambda text: f"{text}\x1b[2J\u202e"),
        "sections to lists": (dict, list),
        "lists to sections": (list, lambda values: {str(n): one for n, one in enumerate(values)}),
        "texts to null": (str, lambda _: None),
    }
    way = chance.choice(list(ways))
    kind, new = ways[way]
    places = [
        (keys, above)
        for keys, above in _places(data)
        if keys[0] not in (DIGEST, "schema_version")
        and isinstance(above[keys[-1]], kind)
        and (kind is bool or not isinstance(above[keys[-1]], bool))
    ]
    if not places:
        return f"{path.relative_to(folder)}: no {way}"
    chosen = [chance.choice(places)] if chance.random() < 0.7 else places
    for keys, above in reversed(chosen):  # what is within first
        above[keys[-1]] = new(above[keys[-1]])
    text = json.dumps(data, sort_keys=True, indent=2, ensure_ascii=way == "texts to halves")
    path.write_text(_fitted(text) + "\n")
    return f"{path.relative_to(folder)}: {way}, {len(chosen)} from {'.'.join(map(str, chosen[0][0]))}"


def forged(folder: Path, chance: random.Random) -> str:
    """A value of a document, whose digest fits, and whose line in the journal does too."""
    what = field_fitted(folder, chance)
    fit_journals(folder, what.partition(" at ")[0])
    return what


def fit_journals(folder: Path, name: str) -> None:
    """Write the line of a file anew, wherever a journal has one."""
    line = f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}"
    for journal in (folder / "journal.sha256", *folder.glob("workers/*/journal.sha256")):
        if journal.exists():
            lines = journal.read_text().splitlines()
            journal.write_text("".join(f"{line if one.endswith(f'  {name}') else one}\n" for one in lines))


#: What a value is replaced by, as text of JSON.
ODD = (
    *("null", "true", "[]", "{}", '""', '"x"', "0", "-1", "0.5", "1e300", "-1e300", "1e-300", "1e999", "NaN"),
    *(str(10**30), str(-(10**30)), "9" * 5000, str(2**63), str(2**53 + 1), '"\\ud800"', '"\\u001b[31mred"'),
    *('"=HYPERLINK(1)"', '"' + "a" * 300 + '"', '"../../../etc/passwd"', "[" * 3000 + "]" * 3000, '{"": [null]}'),
)


def field(folder: Path, chance: random.Random) -> str:
    """One value of a document, whose digest stays as it was."""
    return _field(folder, chance, fit=False)


def field_fitted(folder: Path, chance: random.Random) -> str:
    """One value of a document, with a digest that fits."""
    return _field(folder, chance, fit=True)


def _field(folder: Path, chance: random.Random, *, fit: bool) -> str:
    path = chance.choice(files(folder, ".json"))
    data = json.loads(path.read_text())
    places = [place for place in _places(data) if place[0][0] != DIGEST]
    keys, above = chance.choice(places)
    new, how = _new_value(above[keys[-1]], chance)
    if how == "removed" and isinstance(above, dict):
        del above[keys[-1]]
    elif how == "doubled" and isinstance(above, list):
        above.append(above[keys[-1]])
    else:
        above[keys[-1]] = new
    mark = "\x00odd\x00"
    text = json.dumps(data, sort_keys=True, indent=2, ensure_ascii=False)
    if isinstance(new, str) and new.startswith(mark):
        text = text.replace(json.dumps(new, ensure_ascii=False), new.removeprefix(mark))
    if fit:
        text = _fitted(text)
    path.write_bytes((text + "\n").encode(errors="surrogatepass"))
    return f"{path.relative_to(folder)} at {'.'.join(map(str, keys))}: {how}"


def _fitted(text: str) -> str:
    """With a digest that is right, where such a text has one."""
    with contextlib.suppress(ValueError, RecursionError):
        data = json.loads(text)
        data.pop(DIGEST, None)
        whole = {**data, DIGEST: digest(data)}
        return json.dumps(whole, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return text


def _places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """The path to every value of a document, and what holds it."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys):
        yield (*above, key), value
        yield from _places(value[key], (*above, key))


def _new_value(old: Any, chance: random.Random) -> tuple[Any, str]:
    way = chance.choice(["odd", "odd", "near", "near", "removed", "doubled"])
    if way == "near" and isinstance(old, (int, float)) and not isinstance(old, bool):
        new = old + chance.choice([1, -1, 2]) if isinstance(old, int) else old * chance.choice([0.5, 1.001, 2, -1])
        return new, f"{old} to {new}"
    if way == "near" and isinstance(old, bool):
        return not old, "negated"
    if way == "near" and isinstance(old, str):
        return old[::-1] + "x", "another text"
    if way in ("removed", "doubled"):
        return old, way
    text = chance.choice(ODD)
    return f"\x00odd\x00{text}", text[:30]


def row(folder: Path, chance: random.Random) -> str:
    """A row or a cell of a table."""
    path = chance.choice(
        [path for path in files(folder, ".csv.gz") if gzip.decompress(path.read_bytes()).count(b"\n") > 1]
    )
    head, *lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    number = chance.randrange(len(lines))
    way = chance.choice(["cell", "cell", "cell", "added", "removed", "doubled", "exchanged"])
    cells = lines[number].split(",")
    if way in ("cell", "added"):
        place = chance.randrange(len(cells))
        odd = ["nan", "1e999", "-inf", "", "0", "-1", str(10**30), "x", "1" + cells[place], cells[place] + ";", "٣"]
        cells[place] = chance.choice(odd)
        lines[number : number + (way == "cell")] = [",".join(cells)]
    elif way == "removed":
        del lines[number]
    elif way == "doubled":
        lines.insert(number, lines[number])
    else:
        other = chance.randrange(len(lines))
        lines[number], lines[other] = lines[other], lines[number]
    path.write_bytes(gzip.compress("\n".join([head, *lines, ""]).encode()))
    return f"{path.relative_to(folder)} row {number}: {way}"


def event(folder: Path, chance: random.Random) -> str | None:
    """A line of a log."""
    logs = [path for path in files(folder, ".jsonl") if path.stat().st_size]
    if not logs:  # an older llem kept none
        return None
    path = chance.choice(logs)
    lines = path.read_text().splitlines()
    number = chance.randrange(len(lines))
    way = chance.choice(["value", "value", "odd", "removed", "doubled", "cut"])
    if way in ("value", "odd"):
        data = json.loads(lines[number])
        keys, above = chance.choice(list(_places(data)))
        above[keys[-1]] = _new_value(above[keys[-1]], chance)[0]
        lines[number] = json.dumps(data)
        if way == "odd":
            lines[number] = chance.choice(ODD)
    elif way == "removed":
        del lines[number]
    elif way == "doubled":
        lines.insert(number, lines[number])
    else:
        lines = lines[:number]
    path.write_text("".join(f"{line}\n" for line in lines))
    return f"{path.relative_to(folder)} line {number}: {way}"


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a document, with a digest that fits."""
    data = json.loads(path.read_text())
    change(data)
    path.write_text(_fitted(json.dumps(data)) + "\n")


MUTATIONS: Mapping[str, Mutation] = {
    "byte": flip_byte,
    "byte of rows": flip_row,
    "row": row,
    "field": field,
    "field, digest fits": field_fitted,
    "event": event,
    "truncated": truncate,
    "file deleted": delete_file,
    "folder deleted": delete_folder,
    "trial and result deleted": delete_trial_and_result,
    "files exchanged": exchange_files,
    "experiments exchanged": exchange_experiments,
    "file copied": copy_file,
    "trial copied": copy_trial,
    "experiment copied": copy_experiment,
    "odd file": odd_file,
    "special file": special_file,
    "bomb": bomb,
    "renamed": renamed,
    "of another study": of_another_study,
    "list of the study": study_list,
    "types": types,
    "forged": forged,
}
#: How often each is drawn; others once.
WEIGHTS = {"byte": 2, "row": 2, "field": 3, "field, digest fits": 5, "types": 5, "forged": 2}


@attrs.define
class Row:
    """A row of the table."""

    mutations: int = 0
    meaning: int = 0
    found: int = 0
    missed: int = 0
    hidden: int = 0
    bugs: int = 0
    slowest_s: float = 0.0
    most_mib: int = 0


def one_round(
    base: Base, kind: str, chance: random.Random, folder: Path, row: Row, *, others: int, resume: bool = False
) -> list[str]:
    """Change a copy and run the commands, `others` of those that state nothing; what went wrong, in words."""
    copy = folder / "copy"
    for path in folder.glob("copy*"):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    shutil.copytree(base.path, copy)
    what = f"{kind}: {base.path.name}, {MUTATIONS[kind](copy, chance)}".encode(errors="backslashreplace").decode()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ran = {words: on(base, copy, words) for words in (*STATING, VERIFY, *chance.sample(OTHERS, others))}
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    says = {
        **raw(copy),
        **{" ".join(words): (ran[words].code, ran[words].out.replace(str(copy), "STORE")) for words in STATING},
    }
    changed = [name for name in {**says, **base.says} if says.get(name) != base.says.get(name)]
    row.mutations += 1
    row.meaning += bool(changed)
    row.found += bool(changed) and ran[VERIFY].code in FOUND
    row.most_mib = max(row.most_mib, grown)
    row.slowest_s = round(max(row.slowest_s, *(one.seconds for one in ran.values())), 2)
    wrong = []
    if resume:
        ran[RESUME] = on(base, copy, RESUME, MEASURING_S)
    if changed and ran[VERIFY].code == 0:
        row.missed += 1
        if base.journals and kind != "forged":
            wrong.append(f"{what}: missed, though changed: {', '.join(changed)}")
    if hidden := _hidden(base, changed, ran[STATING[0]]):
        row.hidden += 1
        wrong.append(f"{what}: `show` hides {', '.join(hidden)}: {ran[STATING[0]].err.strip()[-300:]}")
    for words, one in ran.items():
        told = one.err if words[0] in ("export", "bundle") else one.out + one.err
        late = one.seconds > LONGEST_S and words != RESUME
        if one.code not in (0, *FOUND) or late or "Traceback" in told or COMMANDS.search(told):
            row.bugs += 1
            wrong.append(f"{what}: {' '.join(words)} ended with {one.code}: {one.err.strip()[-300:]!r}")
    if grown > MOST_MIB:
        wrong.append(f"{what}: memory grew by {grown} MiB")
    return wrong


def _hidden(base: Base, changed: Sequence[str], shown: Ran) -> list[str]:
    """Experiments whose files are as they were, and that are shown no more; none where study.json is changed."""
    parts = [Path(name).parts for name in changed]
    if any(one[0] in ("study.json", "environments") for one in parts):
        return []
    touched = {one[1] for one in parts if one[0] == "experiments" and len(one) > 1}
    return [name for name in base.ids if name not in touched and name not in shown.out]


def rounds(
    bases: Sequence[Base], mutations: int, seed: int, folder: Path, *, others: int = 1, seconds: float = float("inf")
) -> tuple[dict[str, Row], list[str]]:
    """So many rounds, by kind, and what went wrong."""
    chance, rows, wrong = random.Random(seed), {}, []
    ends = time.monotonic() + seconds
    kinds = [kind for kind in MUTATIONS for _ in range(WEIGHTS.get(kind, 1))]
    for number in range(mutations):
        if time.monotonic() > ends:
            break
        kind = kinds[(number + seed) % len(kinds)]
        base, resume = chance.choice(bases), number % RESUMED == RESUMED - 1
        row = rows.setdefault(kind if base.journals else f"{kind}, older", Row())
        wrong += one_round(base, kind, chance, folder, row, others=others, resume=resume)
    return rows, wrong


def main() -> None:
    mutations, seed, seconds = (float(word) for word in [*sys.argv[1:], *("2000", "0", "inf")[len(sys.argv) - 1 :]])
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, resource.getrlimit(resource.RLIMIT_AS)[1]))
    with tempfile.TemporaryDirectory(prefix="llem-fuzz-") as name, lab(folder := Path(name)):
        bases = [*measured(folder).values(), older(folder / "older")]
        rows, wrong = rounds(bases, int(mutations), int(seed), folder, seconds=seconds)
    print(json.dumps({kind: attrs.asdict(row) for kind, row in rows.items()}, indent=1))
    print("\n".join(wrong))


if __name__ == "__main__":
    main()
