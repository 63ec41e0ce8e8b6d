"""The parts of the validation: what each is for, what it costs, and how it runs. Each is resumable by itself."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import attrs
from benchmarks.validation import sensors, studies
from benchmarks.validation.hooks import ROOT
from benchmarks.validation.sizes import Sizes

from llem.api import prepare
from llem.protocol.events import Event, TrialEnded

__all__ = ["PARTS", "Part", "measure", "pack"]

#: Files of a store that the figures need; the others are traces and requests, which are many times as large.
KEPT = (".json", ".jsonl", ".sha256")


@attrs.frozen
class Part:
    """One part.

    Attributes:
        figures: of the page, that it is for.
        seconds: that it takes on an H200, with the loading of its engines.
        run: measures into a folder; ends early, with what there is, once the event is set.
    """

    name: str
    figures: str
    seconds: float
    run: Callable[[Path, Sizes, threading.Event], None]

    def done(self, folder: Path) -> bool:
        return (folder / self.name / "done.json").exists()


def _recorded(record: Callable[[Path, Sizes], None]) -> Callable[[Path, Sizes, threading.Event], None]:
    """A part without studies: it is short, and starts anew.

    It has a process of its own, whose hold on the GPU ends with it: to later parts this one would be a stranger there.
    """

    def run(folder: Path, sizes: Sizes, stop: threading.Event) -> None:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            pool.submit(record, folder, sizes).result()

    return run


def _studies(*made: Callable[[Sizes], studies.Study]) -> Callable[[Path, Sizes, threading.Event], None]:
    """A part of studies, each in a store of its own, resumed where it was begun."""

    def run(folder: Path, sizes: Sizes, stop: threading.Event) -> None:
        for one in made:
            study = one(sizes)
            store = folder / study["name"].removeprefix("validation-")
            ran = prepare(study, [], store, resume=store.exists()).run(_told, stop)
            for name, error in ran.errors.items():
                print(f"{study['name']}: {name} failed: {error}", flush=True)
            if ran.stopped is not None:
                raise ran.stopped
            if ran.errors:
                raise next(iter(ran.errors.values()))

    return run


def _told(event: Event) -> None:
    if isinstance(event, TrialEnded):
        energy = event.energy_per_output_token_j
        told = "no energy" if energy is None else f"{energy:.5g} J/token"
        print(f"  {event.id} trial {event.trial}: {event.duration_s:.2f} s, {told}", flush=True)


def _overhead(folder: Path, sizes: Sizes, stop: threading.Event) -> None:
    """`benchmarks/overhead.py`: the monitor on and off in turns, in one engine process. It starts anew."""
    shutil.rmtree(folder)
    folder.mkdir()
    window, pairs = max(0.1, sizes.seconds(2.5)), max(2, 2 * sizes.trials // 5)
    command = [
        *(sys.executable, str(ROOT / "benchmarks" / "overhead.py"), str(folder), "--model", sizes.model),
        *("--batch", str(max(1, sizes.wide // 4)), "--output", "8", "--trials", str(pairs), "--deadline", "200"),
        *("--set", f"window_s={window}", "--set", f"warmup.seconds={sizes.seconds(3.0)}"),
        *("--set", "warmup.batches=1", "--set", "baseline.seconds=0"),
    ]
    subprocess.run(command, check=True)


PARTS = {
    part.name: part
    for part in (
        Part("sensors", "F1: counter and instantaneous reading", 140, _recorded(sensors.sensors)),
        Part("thermal", "F2: error by window length; F9: thermal drift", 170, _recorded(sensors.thermal)),
        Part("products", "F3: linearity; F6: known effects", 230, _studies(studies.products)),
        Part(
            "drift",
            "F10: blocks against sequence",
            95,
            _studies(lambda sizes: studies.drift(sizes, "blocks"), lambda sizes: studies.drift(sizes, "sequential")),
        ),
        Part("repeat", "F4: repeatability; F5: A/A", 290, _studies(studies.repeat)),
        Part("batches", "F8: joules per token by batch size", 190, _studies(studies.batches)),
        Part("overhead", "F8: overhead of the monitor", 140, _overhead),
        Part("phases", "F7: additivity of phases", 200, _studies(studies.phases)),
        Part("graphs", "F4: repeatability with CUDA graphs", 190, _studies(studies.graphs)),
    )
}


def measure(part: Part, folder: Path, sizes: Sizes, stop: threading.Event, out: Path | None = None) -> None:
    """Measure one part into `folder`, unless it is done; whatever there is goes into `out` in any case."""
    own = folder / part.name
    own.mkdir(parents=True, exist_ok=True)
    try:
        if not part.done(folder):
            part.run(own, sizes, stop)
            (own / "done.json").write_text(json.dumps(attrs.asdict(sizes)) + "\n")
    finally:
        if out is not None:
            pack(own, out / f"{part.name}.tar.gz")


def pack(folder: Path, file: Path, *, whole: bool = False) -> None:
    """What figures are computed from, as one file. `whole`: with the traces and requests of stores too."""

    def wanted(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        name = Path(info.name).name
        kept = whole or info.isdir() or name.endswith(KEPT) or name == "trace.csv.gz"
        return info if kept else None

    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w:gz", compresslevel=9) as archive:
        archive.add(folder, folder.name, filter=wanted)
