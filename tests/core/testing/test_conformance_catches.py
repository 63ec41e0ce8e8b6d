"""The suites fail for plugins that are wrong: one seeded fault each, and the check that must catch it."""

from __future__ import annotations

import ctypes
import inspect
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest

from llem.backends.base import Backend, Completion, Engine, Holding, MemoryReading, Placement, Request
from llem.backends.echo import EchoBackend, EchoEngine, EchoOptions
from llem.config.fields import option
from llem.config.models import Experiment, Sampling
from llem.errors import MachineError
from llem.experiment import contract
from llem.findings import Finding
from llem.meters.base import CounterMeter, Domain, Meter, WindowMeter
from llem.models.resolve import resolve_model
from llem.models.spec import Architecture, ModelSpec
from llem.plugins import Reference
from llem.testing.conformance import BackendConformance, MeterConformance
from llem.testing.conformance.told import Rules, expect

pytest_plugins = ["pytester"]

MODEL = resolve_model("shape:tiny")
VOCAB = int((MODEL.config or {})["vocab_size"])
REQUESTS = [Request(i, tuple(range(i, i + n)), m) for i, n, m in ((5, 3, 4), (6, 9, 7))]
FAILED = (AssertionError, pytest.fail.Exception)


class EchoKit(BackendConformance):
    """The suite as a plain object; named so that pytest does not collect it."""

    def __init__(self, **changes: Any) -> None:
        self.changes = changes

    def reference(self) -> Reference:
        facts = {"config": "llem.backends.echo:EchoOptions", "summary": "Echo.", **self.changes}
        return Reference("echo", "llem.backends.echo:EchoBackend", **facts)


class MeterKit(MeterConformance):
    """The suite of meters, likewise."""

    window_s = 0.01

    def reference(self) -> Reference:
        return Reference("fake", "llem.meters.rapl:RaplMeter", summary="Fake.")


# --- engines -------------------------------------------------------------------------------------------------------


class OneTooFew(EchoEngine):
    def generate(self, requests: Sequence[Request], sampling: Sampling, **more: Any) -> Sequence[Completion]:
        return [attrs.evolve(c, token_ids=c.token_ids[:-1]) for c in super().generate(requests, sampling, **more)]


class PromptIncluded(EchoEngine):
    def generate(self, requests: Sequence[Request], sampling: Sampling, **more: Any) -> Sequence[Completion]:
        found = super().generate(requests, sampling, **more)
        return [attrs.evolve(c, token_ids=r.token_ids + c.token_ids) for c, r in zip(found, requests, strict=True)]


class PaddedToTheLongest(EchoEngine):
    def generate(self, requests: Sequence[Request], sampling: Sampling, **more: Any) -> Sequence[Completion]:
        longest = max(request.output_tokens for request in requests)
        return super().generate([attrs.evolve(r, output_tokens=longest) for r in requests], sampling, **more)


class SortedByIndex(EchoEngine):
    def generate(self, requests: Sequence[Request], sampling: Sampling, **more: Any) -> Sequence[Completion]:
        return sorted(super().generate(requests, sampling, **more), key=lambda c: c.index)


class PaddingIds(EchoEngine):
    def generate(self, requests: Sequence[Request], sampling: Sampling, **more: Any) -> Sequence[Completion]:
        return [attrs.evolve(c, token_ids=(-1, *c.token_ids[1:])) for c in super().generate(requests, sampling, **more)]


class NeverTheSame(EchoEngine):
    calls = 0

    def generate(self, requests: Sequence[Request], sampling: Sampling, **more: Any) -> Sequence[Completion]:
        self.calls += 1
        found = super().generate(requests, sampling, **more)
        return [attrs.evolve(c, token_ids=(self.calls, *c.token_ids[1:])) for c in found]


class PaddingLeaks(EchoEngine):
    def generate(self, requests: Sequence[Request], sampling: Sampling, **more: Any) -> Sequence[Completion]:
        longest = max(len(request.token_ids) for request in requests)
        padded = [attrs.evolve(r, token_ids=(0,) * (longest - len(r.token_ids)) + r.token_ids) for r in requests]
        return super().generate(padded, sampling, **more)


class TimesGoBackwards(EchoEngine):
    def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, token_times: bool = False
    ) -> Sequence[Completion]:
        found = super().generate(requests, sampling, token_times=token_times)
        return [attrs.evolve(c, token_times_ns=c.token_times_ns and c.token_times_ns[::-1]) for c in found]


class TimesUnasked(EchoEngine):
    def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, token_times: bool = False
    ) -> Sequence[Completion]:
        return super().generate(requests, sampling, token_times=True)


class TupleInConfig(EchoEngine):
    def effective_config(self) -> Mapping[str, Any]:
        return {"dtype": "float32", "devices": (0, 1)}


class NotANumberInConfig(EchoEngine):
    def effective_config(self) -> Mapping[str, Any]:
        return {"dtype": "float32", "share": float("nan")}


class NoDtype(EchoEngine):
    def effective_config(self) -> Mapping[str, Any]:
        return {}


class NoMemoryIsZero(EchoEngine):
    def memory(self) -> MemoryReading:
        return MemoryReading(0, covers="the device")


class MemoryWithoutReason(EchoEngine):
    def memory(self) -> MemoryReading:
        return MemoryReading(None, covers="nothing")


class ZeroWeightBytes(EchoEngine):
    def architecture(self) -> Architecture | None:
        return Architecture(9, 9, 1, 4, 2, 8, 32, VOCAB, 0, 8)


class WindowsUntold(EchoEngine):
    def architecture(self) -> Architecture | None:
        return Architecture(10**6, 10**6, 1, 4, 2, 8, 32, VOCAB, 2 * 10**6, 8)


class UnknownUnfit(EchoEngine):
    def architecture(self) -> Architecture | None:
        return Architecture(10**6, 10**6, 1, 4, 2, 8, 32, VOCAB, 2 * 10**6, 8, windows=(), unfit="somehow")


class StopsIgnored(EchoEngine):
    def generate(self, requests: Sequence[Request], sampling: Sampling, **more: Any) -> Sequence[Completion]:
        return super().generate([attrs.evolve(one, stop=()) for one in requests], sampling, **more)


class StopCutOff(EchoEngine):
    def generate(self, requests: Sequence[Request], sampling: Sampling, **more: Any) -> Sequence[Completion]:
        made = super().generate(requests, sampling, **more)
        return [attrs.evolve(c, token_ids=c.token_ids[:-1]) if c.finish_reason == "stop" else c for c in made]


class OneStopForAll(EchoEngine):
    def generate(self, requests: Sequence[Request], sampling: Sampling, **more: Any) -> Sequence[Completion]:
        stop = next((one.stop for one in requests if one.stop), ())
        return super().generate([attrs.evolve(one, stop=stop) for one in requests], sampling, **more)


class FirstStopOnly(EchoEngine):
    def generate(self, requests: Sequence[Request], sampling: Sampling, **more: Any) -> Sequence[Completion]:
        return super().generate([attrs.evolve(one, stop=one.stop[:1]) for one in requests], sampling, **more)


class EndOfSequenceHidesStops(EchoEngine):
    def generate(self, requests: Sequence[Request], sampling: Sampling, **more: Any) -> Sequence[Completion]:
        asked = requests if sampling.ignore_eos else [attrs.evolve(one, stop=()) for one in requests]
        return super().generate(asked, sampling, **more)


class LacksWithoutAWord(EchoEngine):
    def lacks(self, capability: str) -> str | None:
        return ""


class NoContext(EchoEngine):
    def context_length(self) -> int | None:
        return 0


class KeepsRequests(EchoEngine):
    kept: ClassVar[list[Any]] = []

    def generate(self, requests: Sequence[Request], sampling: Sampling, **more: Any) -> Sequence[Completion]:
        self.kept.append(found := super().generate(requests, sampling, **more))
        return found


class KeepsBytes(EchoEngine):
    kept: ClassVar[list[bytes]] = []

    def generate(self, requests: Sequence[Request], sampling: Sampling, **more: Any) -> Sequence[Completion]:
        self.kept.append(b"x" * 2**20)
        return super().generate(requests, sampling, **more)


ENGINES = [
    (KeepsRequests, "test_generate_keeps_nothing"),
    (KeepsBytes, "test_generate_keeps_nothing"),
    (StopsIgnored, "test_stop_texts"),
    (StopCutOff, "test_stop_texts"),
    (OneStopForAll, "test_stop_texts_are_each_requests_own"),
    (FirstStopOnly, "test_stop_texts_are_each_requests_own"),
    (EndOfSequenceHidesStops, "test_stop_texts_beside_the_end_of_sequence"),
    (LacksWithoutAWord, "test_what_it_lacks_is_said_in_words"),
    (NoContext, "test_context_length"),
    (OneTooFew, "test_counts_are_exact"),
    (PromptIncluded, "test_counts_are_exact"),
    (PaddedToTheLongest, "test_counts_are_exact"),
    (OneTooFew, "test_batch_of_one"),
    (SortedByIndex, "test_completions_come_in_order"),
    (PaddingIds, "test_tokens_are_of_the_vocabulary"),
    (NeverTheSame, "test_greedy_is_repeatable"),
    (PaddingLeaks, "test_batch_does_not_leak"),
    (PromptIncluded, "test_end_of_sequence_may_stop"),
    (TimesGoBackwards, "test_token_times"),
    (TimesUnasked, "test_token_times"),
    (TupleInConfig, "test_effective_config"),
    (NotANumberInConfig, "test_effective_config"),
    (NoDtype, "test_effective_config"),
    (NoMemoryIsZero, "test_memory"),
    (MemoryWithoutReason, "test_memory"),
    (ZeroWeightBytes, "test_architecture"),
    (WindowsUntold, "test_architecture"),
    (UnknownUnfit, "test_architecture"),
]


def _run(check: str, engine: Engine, **reference: Any) -> None:
    kit = EchoKit(**{"capabilities": {"token_times": "supported", "stop": "supported"}, **reference})
    method = getattr(kit, check)
    wanted = {"engine": engine, "model": MODEL, "requests": REQUESTS, "vocab_size": VOCAB}
    wanted |= {"backend": EchoBackend(), "experiment": _experiment()}
    names = tuple(inspect.signature(method).parameters)
    method(**{name: wanted[name] for name in names})


@pytest.mark.parametrize(("engine", "check"), ENGINES, ids=lambda value: getattr(value, "__name__", value))
def test_faulty_engine_is_caught(engine: type[EchoEngine], check: str) -> None:
    """The check passes for the right engine and fails for the faulty one."""
    _run(check, EchoEngine(EchoOptions(token_seconds=0.001), MODEL))
    with pytest.raises((*FAILED, ValueError)):
        _run(check, engine(EchoOptions(token_seconds=0.001), MODEL))


@pytest.mark.process
@pytest.mark.paced
def test_work_that_goes_on_in_a_child_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that the engine began computes on when `generate` has returned; others may have most of the machine."""
    monkeypatch.setattr(contract, "BUSY_CORES", 0.05)
    work = "import time; until = time.monotonic() + 20\nwhile time.monotonic() < until: pass"
    children: list[subprocess.Popen[bytes]] = []

    class GoesOn(EchoEngine):
        def generate(self, requests: Sequence[Request], sampling: Sampling, **more: Any) -> Sequence[Completion]:
            children.append(subprocess.Popen([sys.executable, "-c", work]))
            return super().generate(requests, sampling, **more)

    try:
        with pytest.raises(FAILED):
            _run("test_generate_leaves_no_work", GoesOn(EchoOptions(), MODEL))
    finally:
        for child in children:
            child.kill()
            child.wait()


def test_undeclared_token_times_are_caught() -> None:
    """Token times that the reference does not declare may not come."""
    with pytest.raises(FAILED, match="undeclared"):
        _run("test_token_times", EchoEngine(EchoOptions()), capabilities={})


# --- backends and references ---------------------------------------------------------------------------------------


class LoadsInCheck(EchoBackend):
    def check(self, experiment: Experiment, model: ModelSpec) -> Sequence[Finding]:
        if model.path is not None:
            Path(model.path, "model.safetensors").read_bytes()
        return []


class UnknownFinding(EchoBackend):
    def check(self, experiment: Experiment, model: ModelSpec) -> Sequence[Finding]:
        return [Finding("made_up", "info", "never heard of")]


class NeverCanonical(EchoBackend):
    def canonical(self, experiment: Experiment) -> Experiment:
        return attrs.evolve(experiment, weights_seed=experiment.weights_seed + 1)


class DropsTheModel(EchoBackend):
    def canonical(self, experiment: Experiment) -> Experiment:
        return attrs.evolve(experiment, model="shape:llama-3.2-1b")


class BytesForBits(EchoBackend):
    def holding(self, experiment: Experiment, model: ModelSpec) -> Holding:
        return Holding(weight_bits=2e9)


class NoCopies(EchoBackend):
    def holding(self, experiment: Experiment, model: ModelSpec) -> Holding:
        return Holding(weight_bits=16.0, copies=0)


class ClosesOnce(EchoBackend):
    def load(self, experiment: Experiment, model: ModelSpec, placement: Placement) -> Engine:
        class Once(EchoEngine):
            closed = False

            def close(self) -> None:
                assert not self.closed, "closed already"
                self.closed = True

        return Once(EchoOptions())


def _experiment() -> Experiment:
    return Experiment(backend="echo", dtype="float32", device="cpu")


@pytest.mark.parametrize(
    ("backend", "check"),
    [
        (LoadsInCheck, "test_check_loads_nothing"),
        (UnknownFinding, "test_check_reports_findings"),
        (NeverCanonical, "test_canonical_is_taken_and_stays"),
        (DropsTheModel, "test_canonical_is_taken_and_stays"),
        (BytesForBits, "test_holding_is_in_bits_and_whole_copies"),
        (NoCopies, "test_holding_is_in_bits_and_whole_copies"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_faulty_check_is_caught(backend: type[Backend], check: str) -> None:
    """A check that reads weights or reports an unknown code fails, as does one that is never done leaving out."""
    getattr(EchoKit(), check)(EchoBackend(), _experiment(), MODEL)
    with pytest.raises((*FAILED, FileNotFoundError)):
        getattr(EchoKit(), check)(backend(EchoOptions()), _experiment(), MODEL)


def test_closing_once_only_is_caught() -> None:
    """An engine that cannot be closed twice fails."""
    EchoKit().test_close_twice(EchoBackend(), _experiment(), MODEL, Placement("cpu"))
    with pytest.raises(AssertionError, match="closed already"):
        EchoKit().test_close_twice(ClosesOnce(), _experiment(), MODEL, Placement("cpu"))


@attrs.frozen
class SilentOptions:
    """A setting without a help text."""

    beam: int = 1


@attrs.define
class MutableOptions:
    """Settings that can change."""

    beam: int = option(1, help="Beams.")


def test_undocumented_option_is_caught() -> None:
    """A setting without a help text fails, and is named."""
    EchoKit().test_every_option_is_documented(EchoOptions())
    with pytest.raises(AssertionError, match="beam"):
        EchoKit().test_every_option_is_documented(SilentOptions())


def test_mutable_section_is_caught() -> None:
    """A section that can be changed fails."""
    EchoKit().test_config_is_frozen(EchoOptions())
    with pytest.raises(FAILED):
        EchoKit().test_config_is_frozen(MutableOptions())


@pytest.mark.process
def test_heavy_config_is_caught() -> None:
    """A config module that imports what the plugin wraps fails, and the module is named."""
    EchoKit().test_hooks_and_config_import_light()
    with pytest.raises(AssertionError, match="scipy"):
        EchoKit(config="scipy.stats:norm").test_hooks_and_config_import_light()


def test_wrong_name_is_caught() -> None:
    """A reference whose class has another name fails."""
    kit = EchoKit()
    kit.test_target_carries_the_name()
    kit.reference = lambda: Reference("ecco", "llem.backends.echo:EchoBackend")  # type: ignore[method-assign]
    with pytest.raises(AssertionError):
        kit.test_target_carries_the_name()


def test_missing_install_advice_is_caught() -> None:
    """A reference with requirements and no word on how to install them fails."""
    EchoKit().test_reference_is_complete()
    with pytest.raises(AssertionError, match="install"):
        EchoKit(requires=("echo",)).test_reference_is_complete()


# --- meters --------------------------------------------------------------------------------------------------------


class GoodCounter(CounterMeter):
    """Joules that grow with every read, of one package and of the GPUs given."""

    name: ClassVar[str] = "fake"
    domain = Domain("cpu:0", "cpu", "measured", "a fake", period_s=0.1)
    joules = 0.0
    step = 1.0
    watts: float | None = 5.0

    def open(self) -> Sequence[Domain]:
        return [self.domain]

    def read_counter(self, domain: str) -> float:
        self.joules += self.step
        return self.joules

    def read_power(self, domain: str) -> float | None:
        return self.watts


class GoesBackwards(GoodCounter):
    joules = 100.0
    step = -1.0


class NegativePower(GoodCounter):
    watts = -5.0


class WrongName(GoodCounter):
    domain = Domain("package-0", "cpu", "measured", "a fake", period_s=0.1)


class WrongScope(GoodCounter):
    domain = Domain("cpu:0", "gpu", "measured", "a fake", period_s=0.1)


class NoInstrument(GoodCounter):
    domain = Domain("cpu:0", "cpu", "modelled", "", period_s=0.1)


class NoPeriod(GoodCounter):
    domain = Domain("cpu:0", "cpu", "measured", "a fake")


class AnotherGpu(GoodCounter):
    domain = Domain("gpu:GPU-of-another", "gpu", "measured", "a fake", period_s=0.1)


class GoodWindow(WindowMeter):
    """A window meter with a reading, and one that has none."""

    name: ClassVar[str] = "fake"
    answer: Mapping[str, float | None] = {"cpu:0": 1.5, "dram:0": None}

    def open(self) -> Sequence[Domain]:
        return [
            Domain("cpu:0", "cpu", "measured", "a fake", method="window"),
            Domain("dram:0", "dram", "modelled", "a fake", method="window"),
        ]

    def begin(self) -> None:
        return None

    def end(self) -> Mapping[str, float | None]:
        return self.answer


class MissingIsZero(GoodWindow):
    answer = {"cpu:0": 1.5, "dram:0": 0.0}


class ForgetsADomain(GoodWindow):
    answer = {"cpu:0": 1.5}


class Prints(GoodWindow):
    def begin(self) -> None:
        print("measuring")


class LeavesAFile(GoodWindow):
    def open(self) -> Sequence[Domain]:
        Path("emissions.csv").write_text("")
        return super().open()


class TouchesADevice(GoodCounter):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        ctypes.CDLL(None)


class ListsSys(GoodCounter):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        sorted(Path("/sys/class").iterdir())


class NoHint(GoodCounter):
    def open(self) -> Sequence[Domain]:
        raise MachineError("no counter here")


class NothingToRead(GoodCounter):
    def open(self) -> Sequence[Domain]:
        return []


METERS: list[tuple[type[Meter], str]] = [
    (GoesBackwards, "test_counter_never_goes_back"),
    (NegativePower, "test_power_is_not_negative"),
    (WrongName, "test_domains_are_stated"),
    (WrongScope, "test_domains_are_stated"),
    (NoInstrument, "test_domains_are_stated"),
    (NoPeriod, "test_domains_are_stated"),
    (AnotherGpu, "test_only_the_given_gpus"),
    (MissingIsZero, "test_windows_follow_each_other"),
    (ForgetsADomain, "test_windows_follow_each_other"),
    (Prints, "test_standard_output_stays_clean"),
    (LeavesAFile, "test_no_file_is_left_behind"),
    (TouchesADevice, "test_constructing_touches_nothing"),
    (ListsSys, "test_constructing_touches_nothing"),
    (NoHint, "test_open_lists_domains_or_says_what_to_do"),
    (NothingToRead, "test_open_lists_domains_or_says_what_to_do"),
]


@pytest.fixture
def check_meter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """Runs one check of the suite on a meter."""

    def check(name: str, kind: type[Meter]) -> None:
        method = getattr(MeterKit(), name)
        given = {"make": lambda uuids: kind(None, uuids), "gpu_uuids": ("GPU-mine",)}
        given |= {"tmp_path": tmp_path, "monkeypatch": monkeypatch, "capfd": capfd}
        names = tuple(inspect.signature(method).parameters)
        if "opened" in names:
            meter = kind(None, ("GPU-mine",))
            given["opened"] = (meter, meter.open())
        method(**{each: given[each] for each in names})

    return check


@pytest.mark.parametrize(("kind", "check"), METERS, ids=lambda value: getattr(value, "__name__", value))
def test_faulty_meter_is_caught(kind: type[Meter], check: str, check_meter: Any) -> None:
    """The check passes for the right meter and fails for the faulty one."""
    check_meter(check, GoodWindow if issubclass(kind, WindowMeter) else GoodCounter)
    with pytest.raises(FAILED):
        check_meter(check, kind)


@pytest.mark.process
def test_failures_show_under_pytest(pytester: pytest.Pytester) -> None:
    """An author who inherits the suite sees the failed check, with the values, and the others pass."""
    pytester.makepyfile(
        wrong="""
        from llem.backends.echo import EchoBackend, EchoEngine

        class Engine(EchoEngine):
            def effective_config(self):
                return {"dtype": "float32", "devices": (0, 1)}

        class Wrong(EchoBackend):
            name = "wrong"

            def load(self, *args):
                return Engine(self.options, args[1])
        """,
        test_wrong="""
        from llem.plugins import Reference
        from llem.testing.conformance import BackendConformance

        class TestWrong(BackendConformance):
            def reference(self):
                return Reference("wrong", "wrong:Wrong", config="llem.backends.echo:EchoOptions", summary="Wrong.",
                                 capabilities={"token_times": "supported", "stop": "supported"})
        """,
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--import-mode=prepend")
    result.assert_outcomes(failed=1, passed=29, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "*test_effective_config*",
            "E*BrokenRule: the contract of plugins is not kept",
            "E *rule      effective_config gives JSON values: no tuples, no keys but text, no NaN",
            "E *got       'devices': (0, 1)",
            "E *expected  what json.loads(json.dumps(it)) gives",
            "E *page      docs/howto/write-a-backend.md",
        ]
    )


class Toy(Rules):
    """Checks as the suites have them."""

    page = "docs/howto/write-a-toy.md"


@pytest.mark.parametrize(
    ("check", "got", "expected"),
    [
        (lambda: expect([2, 1], [1, 2]), "[2, 1]", "[1, 2]"),
        (lambda: expect(3, 4, "the number of toys"), "3 (the number of toys)", "4"),
        (lambda: pytest.fail("DID NOT RAISE ConfigError"), "DID NOT RAISE ConfigError", "what the rule says"),
        (lambda: pytest.skip("no toys here"), None, None),
    ],
)
def test_a_failed_check_tells_rule_got_expected_and_page(check: Any, got: str | None, expected: str | None) -> None:
    """The rule is the check's docstring; what is no assertion is told as pytest does."""

    class Suite(Toy):
        __module__ = "llem.testing.conformance.toy"

        def test_toys(self) -> None:
            """Toys come
            in order."""
            check()

    with pytest.raises((*FAILED, pytest.skip.Exception)) as caught:
        Suite().test_toys()
    lines = str(caught.value).splitlines()
    if got is None:
        assert lines == ["no toys here"]
    else:
        assert lines == [
            "the contract of plugins is not kept",
            "rule      Toys come in order.",
            f"got       {got}",
            f"expected  {expected}",
            "page      docs/howto/write-a-toy.md",
        ]


def test_a_plain_assertion_of_a_suite_is_what_was_got() -> None:
    """With the values that pytest puts into it."""
    with pytest.raises(AssertionError) as caught:
        EchoKit(requires=("echo",)).test_reference_is_complete()
    lines = str(caught.value).splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["rule", "got"]
    assert "requires names modules and install says nothing" in lines[2]
    assert lines[-2:] == ["expected  what the rule says", "page      docs/howto/write-a-backend.md"]
