"""The command; see the package."""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
from benchmarks.validation import __doc__ as about
from benchmarks.validation.hooks import offered
from benchmarks.validation.sizes import Sizes


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure", help="measure on this machine's first GPU")
    measuring.add_argument("folder", type=Path, help="where raw data go; what is done there is not done again")
    measuring.add_argument("--part", nargs="+", metavar="NAME", help="parts, in order; all by default")
    measuring.add_argument("--pack", type=Path, metavar="OUT", help="put one small file for each part here")
    measuring.add_argument("--whole", action="store_true", help="pack the traces of stores too")
    measuring.add_argument("--deadline", type=float, default=540.0, metavar="SECONDS", help="stop studies by then")
    measuring.add_argument("--set", dest="sizes", action="append", default=[], metavar="NAME=VALUE")
    commands.add_parser("parts", help="say what the parts are for, and what they cost")
    writing = commands.add_parser("write", help="compute every figure and write the page; needs no GPU")
    writing.add_argument("folder", type=Path, help="of the archives PART.tar.gz")
    writing.add_argument("--take", type=Path, metavar="OUT", help="copy the archives of this folder there first")
    writing.add_argument("--page", type=Path, metavar="FILE", help="docs/explanation/validation.md by default")
    args = parser.parse_args(arguments)
    {"measure": _measure, "parts": _parts, "write": _write}[args.command](args)


def sizes_of(assignments: Sequence[str]) -> Sizes:
    """The sizes with these changes. Raises SystemExit: no such size, or no such value."""
    kinds = {field.name: type(field.default) for field in attrs.fields(Sizes)}
    found: dict[str, Any] = {}
    for text in assignments:
        name, _, value = text.partition("=")
        if name not in kinds:
            raise SystemExit(f"--set {text}: there is no size {name!r}; there are {', '.join(kinds)}")
        try:
            found[name] = kinds[name](value)
        except ValueError:
            raise SystemExit(f"--set {text}: {value!r} is no {kinds[name].__name__}") from None
    return Sizes(**found)


def _parts(args: argparse.Namespace) -> None:
    from benchmarks.validation.parts import PARTS

    for part in PARTS.values():
        print(f"{part.name:10} {part.seconds:5.0f} s  {part.figures}")
    print(f"{'all':10} {sum(part.seconds for part in PARTS.values()):5.0f} s")


def _write(args: argparse.Namespace) -> None:
    from benchmarks.validation.page import PAGE, write

    for one in write(args.folder, args.take, args.page or PAGE):
        print(f"{one.name:4} {one.verdict:13} {one.title}")


def _measure(args: argparse.Namespace) -> None:
    args.folder.mkdir(parents=True, exist_ok=True)
    offered(args.folder / "plugins")
    from benchmarks.validation.parts import PARTS, measure, pack

    sizes, stop = sizes_of(args.sizes), threading.Event()
    chosen = list(PARTS) if args.part is None else args.part
    if unknown := [name for name in chosen if name not in PARTS]:
        raise SystemExit(f"--part {unknown[0]}: there are {', '.join(PARTS)}")
    timer = threading.Timer(args.deadline, stop.set)
    timer.daemon = True
    timer.start()
    begin, failed = time.monotonic(), False
    for name in chosen:
        part = PARTS[name]
        left = args.deadline - (time.monotonic() - begin)
        if left < part.seconds * sizes.scale / 2:
            print(f"{name}: about {part.seconds:.0f} s, and {left:.0f} s are left: run it again for this part")
            continue
        print(f"{name}: {part.figures}; about {part.seconds * sizes.scale:.0f} s", flush=True)
        since = time.monotonic()
        try:
            measure(part, args.folder, sizes, stop, args.pack)
        except Exception as error:  # the parts after it are worth their time all the same
            failed = True
            print(f"{name}: ended early: {type(error).__name__}: {error}", flush=True)
        print(f"{name}: {time.monotonic() - since:.0f} s", flush=True)
        if args.pack and args.whole:
            pack(args.folder / name, args.pack / f"{name}-whole.tar.gz", whole=True)
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
