"""`llem recommend` and `llem pareto`: from stored trials to a choice, and the mistakes that a user can make."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import yaml

import llem
from llem.store.store import Store

ENERGY = "energy_per_output_token_j"
#: By id: dtype, batch size, and power as a multiple of 600 W.
POINTS = {"a1": ("bfloat16", 2, 1.0), "b2": ("float16", 2, 0.9), "c3": ("bfloat16", 8, 1.15), "d4": ("float16", 8, 1.1)}


@pytest.fixture(autouse=True)
def _wide(isolated_llem, monkeypatch):
    """No heading is broken."""
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make):
    """Four configurations of two processes each, which differ in power alone, and a fake."""
    axes = ["dtype", "load.batch_size", "backend"]
    values = {name: {"dtype": dtype, "load.batch_size": size} for name, (dtype, size, _) in POINTS.items()}
    values["e5"] = {"dtype": "bfloat16", "load.batch_size": 2, "backend": "echo"}
    points = {name: {"number": number, "values": point} for number, (name, point) in enumerate(values.items())}
    store = Store.create(
        tmp_path_factory.mktemp("recommend") / "out",
        {"name": "by hand", "experiments": list(points), "axes": axes, "points": points},
    )
    store.write_environment({"machine": "test"})
    for name, (dtype, _, power) in POINTS.items():
        timed = name == "d4"  # it alone has times of tokens
        make.fill(store, name, processes=2, per_process=3, power=power, dtype=dtype, token_times=timed)
    make.fill(store, "e5", power=0.5, backend="echo")
    return store.path


def lines(text):
    return [" ".join(line.split()) for line in text.splitlines()]


def test_the_cheapest_is_taken(run_llem, folder):
    """It ends with 0; the verdict first, the contenders in a table, the fake among those that are not ranked."""
    done = run_llem("recommend", folder)
    shown = lines(done.stdout)

    assert done.exit_code == 0
    assert shown[0] == "Take b2: dtype float16, load.batch_size 2"
    assert shown[1].startswith("energy per output token: ")
    assert shown[1].endswith(" with 95 % (gpu, measured)")
    assert "P > 0.99 that it has the lowest energy per output token" in shown
    assert [line.split()[0] for line in shown if line.split()[:1] and line.split()[0] in POINTS] == [
        "b2",
        "a1",
        "d4",
        "c3",
    ]
    assert "not ranked, 1: echo is a fake, whose figures mean nothing (e5)" in shown
    assert any("weights are random" in line for line in shown)


def test_json_is_the_recommendation_and_what_was_asked(run_llem, folder):
    """Short words become names."""
    done = run_llem("recommend", folder, "--minimize", "energy", "--power", "630W", "--json")
    told = json.loads(done.stdout)

    assert told["asked"]["minimise"] == ENERGY
    assert told["asked"]["power"] == "630W"
    assert told["choice"] == "b2"
    assert told["basis"] == {"scope": "gpu", "kind": "measured"}
    assert {one["id"]: one["standing"] for one in told["contenders"]} == {
        "b2": "choice", "a1": "worse", "d4": "out", "c3": "out",
    }  # fmt: skip


def test_a_limit_keeps_the_cheapest_out(run_llem, folder):
    """The least speed that all have the same changes nothing; a greatest power does, and says whom it excludes."""
    done = run_llem("recommend", folder, "--slo", "output_tokens_per_s>1", "--power", "630 W")
    shown = lines(done.stdout)

    assert done.exit_code == 0
    assert any("that it keeps all limits and has the lowest energy per output token" in line for line in shown)
    assert any(
        line.startswith("power<=630 W excludes 2: at 1.05 to 1.10 times the bound, all surely") for line in shown
    )


def test_a_limit_on_what_some_lack_leaves_those_that_have_it(run_llem, folder):
    """One alone has times of tokens; the reason why the others are out is told in words."""
    done = run_llem("recommend", folder, "--slo", "ttft:p50<10s")
    shown = lines(done.stdout)

    assert done.exit_code == 0
    assert shown[0] == "Take d4: dtype float16, load.batch_size 8"
    assert any(line.startswith("ttft:p50<10s excludes 3 without a value: ") for line in shown)


def test_nothing_keeps_the_limits(run_llem, folder):
    """It ends with 1, names the limit and the nearest; with --json, too."""
    done = run_llem("recommend", folder, "--power", "100W")
    told = run_llem("recommend", folder, "--power", "100W", "--json")

    assert (done.exit_code, told.exit_code) == (1, 1)
    assert lines(done.stdout)[0] == "No configuration keeps all limits (4 were looked at)"
    assert "nearest: b2: dtype float16, load.batch_size 2" in lines(done.stdout)
    assert json.loads(told.stdout)["choice"] is None
    assert json.loads(told.stdout)["blocking"]["metric"] == "power_w"


def test_speed_is_maximised(run_llem, folder):
    """All are equally fast, so all are tied, and none is said to be the best."""
    told = json.loads(run_llem("recommend", folder, "--maximise", "speed", "--json").stdout)

    assert told["objective"] == "output_tokens_per_s"
    assert told["lower_is_better"] is False
    assert set(told["ties"]) == set(POINTS)
    assert told["basis"] is None


def test_cost_decides_where_prices_are_given(run_llem, folder):
    """In their currency, with every input below and in JSON; of a front and of a load, too."""
    prices = ("--gpu-hour", "2", "--kwh", "0.2", "--currency", "EUR")
    shown = lines(run_llem("recommend", folder, "--minimise", "cost", *prices).stdout)
    told = json.loads(run_llem("recommend", folder, "--minimise", "cost", *prices, "--load", "9/s", "--json").stdout)
    front = lines(run_llem("pareto", folder, "cost", "speed", *prices).stdout)

    assert shown[0] == "Take b2: dtype float16, load.batch_size 2"
    assert any(line.startswith("cost per million output tokens: ") and " EUR" in line for line in shown)
    assert any("EUR/M output tokens" in line for line in shown)
    assert shown[-1].startswith("prices: 2 EUR per GPU-hour, 0.2 EUR per kWh, PUE 1; GPUs counted: 1")
    assert (told["prices"]["kwh"], told["unit"], told["serving"]["rows"][0]["currency"]) == (0.2, "EUR", "EUR")
    assert front[-1].startswith("prices: 2 EUR per GPU-hour")


def test_a_cost_can_be_a_limit(run_llem, folder):
    """In the currency of the prices, which stand below; a price that is missing is named."""
    limit = ("--slo", "cost_per_million_output_tokens<1000")
    shown = lines(run_llem("recommend", folder, *limit, "--gpu-hour", "2", "--kwh", "0.2").stdout)
    lacking = run_llem("recommend", folder, *limit, "--kwh", "0.2")

    assert shown[0] == "Take b2: dtype float16, load.batch_size 2"
    assert not [line for line in shown if "currency" in line]
    assert shown[-1].startswith("prices: 2 USD per GPU-hour, 0.2 USD per kWh, PUE 1; GPUs counted: 1")
    assert lacking.exit_code == 2
    assert "needs gpu_hour or machine_hour" in lacking.stderr


@pytest.mark.backends("pytorch")
def test_the_choice_is_emitted_alone(run_llem, folder, tmp_path):
    """A study on standard output or in a file; commands for a shell; nothing where nothing keeps the limits."""
    done = run_llem("recommend", folder, "--emit", "yaml")
    written = run_llem("recommend", folder, "--emit", "yaml", "-o", tmp_path / "again.yaml")
    command = run_llem("recommend", folder, "--emit", "command")
    nothing = run_llem("recommend", folder, "--emit", "command", "--power", "1W")

    assert done.exit_code == written.exit_code == command.exit_code == 0
    assert yaml.safe_load(done.stdout)["dtype"] == "float16"
    assert "b2" in done.stdout.splitlines()[0]
    assert (written.stdout, (tmp_path / "again.yaml").read_text()) == ("", done.stdout)
    assert "experiment b2" in command.stdout.splitlines()[0]
    assert (nothing.exit_code, nothing.stdout) == (1, "")
    assert "No configuration keeps all limits" in nothing.stderr


@pytest.mark.process
def test_the_choice_is_confirmed(run_llem, lab, tmp_path):
    """What was stated, what came and the verdict, in a folder of its own."""
    base = {**lab, "lab": {"token_seconds": 0.002}, "meters": ["steady"], "trials": 2}
    llem.run_study({"name": "mine", "base": base, "axes": {"load.batch_size": [1, 4]}}, tmp_path / "out")
    asked = ("recommend", tmp_path / "out", "--maximise", "speed", "--confirm", "1", "-q")
    done = run_llem(*asked, "-o", tmp_path / "again")
    shown = lines(done.stdout)
    assert shown[0].startswith("Take ")
    assert "output_tokens_per_s over 1 new engine process of each" in shown
    assert any(line.startswith(("confirmed: ", "not confirmed: ")) for line in shown)
    assert done.exit_code == (0 if any(line.startswith("confirmed: ") for line in shown) else 1)
    assert f"stored in {tmp_path / 'again'}" in done.stderr


def test_what_is_not_decided_is_not_confirmed(run_llem, folder, monkeypatch):
    """Where nothing could be measured again, a script must not take the choice for confirmed."""
    again = SimpleNamespace(confirmed=None, marks=())
    monkeypatch.setattr("llem.cli.recommend._prepare", lambda *_, **__: None)
    monkeypatch.setattr("llem.cli.recommend._confirmed", lambda *_, **__: again)
    for confirmed, code in ((None, 1), (False, 1), (True, 0)):
        again.confirmed = confirmed
        assert run_llem("recommend", folder, "--confirm", "1").exit_code == code


def test_a_cost_is_a_limit(run_llem, folder):
    """Prices that a limit needs decide something; they are told below, and the bound is in their currency."""
    asked = ("recommend", folder, "--gpu-hour", "2", "--kwh", "0.3", "--currency", "EUR", "--slo")
    done = run_llem(*asked, "cost_per_million_output_tokens<100")

    assert done.exit_code == 0
    assert "prices: 2 EUR per GPU-hour" in done.stdout
    assert " currency" not in done.stdout
    assert run_llem(*asked, "cost_per_million_output_tokens<0.01").exit_code == 1
    assert "decide nothing" in run_llem(*asked, "power_w<100W").stderr


def test_a_load_to_serve(run_llem, folder):
    """Below the recommendation how many replicas serve it; in JSON beside it; what is no load is a mistake."""
    shown = lines(run_llem("recommend", folder, "--load", "100/s").stdout)
    told = json.loads(run_llem("recommend", folder, "--load", "6000/min", "--json").stdout)

    assert shown[0] == "Take b2: dtype float16, load.batch_size 2"
    assert any(line.startswith("For a load of 100/s: ") for line in shown)
    assert told["asked"]["load"] == "6000/min"
    assert told["serving"]["demand"]["pieces"] == [[86400.0, 100.0]]
    done = run_llem("recommend", folder, "--load", "100")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "100" in done.stderr


def test_only_so_many_stand_in_the_table(run_llem, folder):
    """--top; the rest are counted."""
    shown = lines(run_llem("recommend", folder, "--top", "1").stdout)

    assert "3 more contenders: `--top N` shows them" in shown


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--minimise", "energy", "--maximise", "speed"], "two objectives"),
        (["--minimise", "speed"], "use --maximise output_tokens_per_s"),
        (["--maximise", "energy"], "use --minimise energy_per_output_token_j"),
        (["--minimise", "energy_per_output_tokn_j"], "did you mean 'energy_per_output_token_j'?"),
        (["--slo", "tpot:p99<50"], "no unit"),
        (["--power", "much"], "much"),
        (["--memory", "80"], "80"),
        (["--quality", "gsm8k>=0.5"], "gsm8k"),
        (["--reference", "zz"], "zz"),
        (["--top", "0"], "--top"),
        (["--minimise", "cost"], "needs prices"),
        (["--minimise", "cost", "--kwh", "0.2"], "needs gpu_hour or machine_hour"),
        (["--slo", "cost_per_request<1"], "needs prices"),
        (["--gpu-hour", "2"], "prices decide nothing here"),
        (["--emit", "toml"], "yaml"),
        (["--emit", "yaml", "--json"], "leave --json out"),
        (["--emit", "yaml", "--confirm", "2"], "leave --confirm out"),
        (["-o", "x"], "belongs to --emit and --confirm"),
        (["--resume"], "belongs to --confirm"),
        (["--confirm", "0"], "--confirm"),
    ],
)
def test_mistakes_end_with_2_and_say_what_would_be_right(run_llem, folder, arguments, says):
    """Nothing on standard output, no traceback."""
    done = run_llem("recommend", folder, *arguments)

    assert done.exit_code == 2
    assert says in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_a_folder_without_a_store_is_a_mistake(run_llem, tmp_path):
    """As for every command that reads one."""
    assert run_llem("recommend", tmp_path).exit_code == 2
    assert run_llem("pareto", tmp_path, "energy", "speed").exit_code == 2


def test_a_store_of_fakes_recommends_nothing(run_llem, tmp_path, make):
    """The error says so, and what to do."""
    store = Store.create(tmp_path / "fakes", {"name": "fakes"})
    store.write_environment({"machine": "test"})
    make.fill(store, backend="echo")
    done = run_llem("recommend", store.path)

    assert done.exit_code == 2
    assert "all results are of echo, a fake" in done.stderr


def test_a_front_has_what_nothing_dominates(run_llem, folder):
    """Equally fast, the one with the least energy alone; each with the probability that another one dominates it."""
    done = run_llem("pareto", folder, "energy", "speed")
    told = json.loads(run_llem("pareto", folder, "energy", "speed", "--json").stdout)

    assert done.exit_code == 0
    assert lines(done.stdout)[0] == "all: pytorch · shape:llama-3.1-8b · float16"
    assert lines(done.stdout)[2].startswith("id dtype batch_size J/output token ")  # no row sets the backend
    assert [told["x"], told["y"], told["results"]] == [ENERGY, "output_tokens_per_s", 5]
    assert told["front"][0]["id"] == "b2"
    assert told["front"][0]["x"]["kind"] == "measured"
    assert all(0 <= one["dominated"] < 0.95 for one in told["front"])
    assert "less of energy per output token and more of output tokens are better" in lines(done.stdout)


def test_a_front_needs_two_metrics(run_llem, folder):
    """One metric twice has no front."""
    done = run_llem("pareto", folder, "energy", ENERGY)

    assert done.exit_code == 2
    assert "X and Y are the same metric" in done.stderr
