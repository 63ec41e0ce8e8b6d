"""Findings of engines that others may have used: each appears when its cause is there, and not otherwise."""

from __future__ import annotations

import attrs
import pytest

from llem.backends.base import Observed
from llem.experiment.serving.window import beside
from llem.metrics.result import compute_result


def served(make, told=None, server=None, **document):
    """A study of one window: what the engine tells of each request, of itself, and its document."""
    study = make.Served(make, engine={**make.engine_document(), **document})
    if told is not None:
        rows = [attrs.evolve(row, engine_metrics=dict(told)) for row in study.requests[0]]
        study.put(0, rows)
    if server is not None:
        [trial] = study.trials
        study.trials = [attrs.evolve(trial, serving=attrs.evolve(trial.serving, server=server))]
    return study


def test_the_share_from_the_cache_is_that_of_the_requests(make):
    """A quarter of each prompt: told as a metric and as a finding."""
    rows = served(make).requests[0]
    study = served(make, {"cached_tokens": rows[0].input_tokens / 4})
    assert study.metrics()["cached_tokens_share"].value == pytest.approx(0.25)
    assert study.found("cache_warm").severity == "warning"


def test_the_servers_own_counts_tell_the_share_where_requests_do_not(make):
    """The requests' word comes first."""
    server = {"cache_hit_tokens": 50.0, "cache_queried_tokens": 200.0}
    assert served(make, server=server).metrics()["cached_tokens_share"].value == pytest.approx(0.25)
    assert served(make, {"cached_tokens": 0.0}, server).metrics()["cached_tokens_share"].value == 0


def test_more_hits_than_were_looked_for_are_no_share(make):
    """They are not cut to one: what the server counts is something else."""
    found = served(make, server={"cache_hit_tokens": 1e15, "cache_queried_tokens": 200.0})
    share = found.metrics()["cached_tokens_share"]
    assert (share.value, share.reason) == (None, "cache_not_told")


def test_prompts_that_were_sent_as_text_are_counted_by_the_server(make):
    """The share is of the tokens that the server counts."""
    study = served(make, {"cached_tokens": 5.0, "prompt_tokens": 10.0})
    assert study.metrics()["cached_tokens_share"].value == pytest.approx(0.5)


def test_a_cold_cache_is_not_told(make):
    """Up to 1 % is no finding; an engine that tells nothing has no share, with a reason."""
    rows = served(make).requests[0]
    assert "cache_warm" not in served(make, {"cached_tokens": rows[0].input_tokens / 200}).codes()
    found = served(make).metrics()["cached_tokens_share"]
    assert (found.value, found.reason) == (None, "cache_not_told")


@pytest.fixture
def batches(make):
    """Results of an offline load by what the engine tells of each request, and how its document reads."""

    def result(told=None, index=0, **document):
        t0, t1 = make.window(0)
        trace = make.trace(make.WATTS[0], t0, t1)
        rows = [attrs.evolve(row, index=row.index + index, engine_metrics=told) for row in make.request_rows(0, t0, t1)]
        trial = make.make_trial(0, trace, rows, t0, t1)
        engine = {**make.engine_document(), **document}
        return compute_result(
            make.experiment_document(), [engine], [trial], [], {0: rows}, [make.outcome_document()], {0: trace}
        )

    return result


def test_a_warm_cache_of_batches(batches):
    """The share is of every request of the batches, as the engine tells it."""
    found = batches({"cached_tokens": 5.0, "prompt_tokens": 10.0})
    assert found["cached_tokens_share"].value == pytest.approx(0.5)
    assert "cache_warm" in {one.code for one in found.findings}
    cold = batches()
    assert (cold["cached_tokens_share"].value, cold["cached_tokens_share"].reason) == (None, "cache_not_told")
    assert "cache_warm" not in {one.code for one in cold.findings}


def test_prompts_of_batches_that_repeat(batches):
    """More requests than prompts, as under any other load."""
    found = batches(workload={"kind": "file", "prompts": 3}, keeps_prompts=True)
    assert "prompts_repeat" in {one.code for one in found.findings}
    assert "prompts_repeat" not in {one.code for one in batches(workload={"kind": "file", "prompts": 3}).findings}


@pytest.mark.parametrize(
    ("prompts", "keeps", "repeats"),
    [(7, True, True), (7, None, True), (7, False, False), (10**6, True, False), (None, True, False)],
)
def test_prompts_that_repeat(make, prompts, keeps, repeats):
    """More requests than prompts, with a cache that is there or may be."""
    workload = {"kind": "file"} if prompts is None else {"kind": "file", "prompts": prompts}
    study = served(make, workload=workload, keeps_prompts=keeps)
    assert ("prompts_repeat" in study.codes()) is repeats
    if repeats:
        assert study.found("prompts_repeat").evidence == {"requests": len(study.requests[0]), "prompts": 7}


@pytest.mark.parametrize(("sent", "repeats"), [(None, False), (500, False), (501, True)])
def test_prompts_that_repeat_beside_the_windows(make, sent, repeats):
    """The warm-up, the search and what runs around a window fill the cache as well; an older store does not tell."""
    study = served(make, workload={"kind": "file", "prompts": 600, "distinct": 500}, keeps_prompts=None)
    [trial] = study.trials
    study.trials = [attrs.evolve(trial, serving=attrs.evolve(trial.serving, sent_so_far=sent))]
    assert ("prompts_repeat" in study.codes()) is repeats
    if repeats:
        found = study.found("prompts_repeat")
        assert found.evidence == {"requests": 501, "prompts": 500}
        assert "501 requests were sent in and beside the windows, of 500 different prompts" in found.message


def test_the_warm_up_of_batches_counts(batches):
    """By where in the sequence the first batch of a window is."""
    [first] = {one.evidence["requests"] for one in batches(workload={"prompts": 3}, keeps_prompts=True).findings
               if one.code == "prompts_repeat"}  # fmt: skip
    later = batches(index=5, workload={"prompts": first + 4}, keeps_prompts=True).findings
    [found] = [one for one in later if one.code == "prompts_repeat"]
    assert found.evidence == {"requests": first + 5, "prompts": first + 4}


FILE, SYNTHETIC = {"kind": "file", "prompts": 10**6}, {"kind": "synthetic"}


@pytest.mark.parametrize(
    ("workload", "salt", "command", "keeps", "told"),
    [
        (FILE, "abc", None, None, True),
        (FILE, "abc", None, True, True),
        (FILE, "abc", None, False, False),
        (FILE, "", ["vllm", "serve"], None, False),
        (FILE, None, None, None, False),  # no server
        (SYNTHETIC, "abc", None, None, False),
        (SYNTHETIC, "", None, None, True),
    ],
)
def test_a_server_that_may_know_the_prompts(make, workload, salt, command, keeps, told):
    """It ran before, gets what another run may have sent, and tells nothing of its cache."""
    effective = {"dtype": "bfloat16"} if salt is None else {"dtype": "bfloat16", "salt": salt}

    def study(answers=None, server=None):
        found = served(make, answers, server, workload=workload, keeps_prompts=keeps, effective=effective)
        found.experiment["config"] |= {"backend": "openai", "openai": {"command": command}}
        return found

    assert ("cache_unknown" in study().codes()) is told
    assert "cache_unknown" not in study({"cached_tokens": 0.0}).codes()
    assert "cache_unknown" not in study(None, {"cache_hit_tokens": 0.0, "cache_queried_tokens": 9.0}).codes()


def test_fewer_different_prompts_than_rows(make):
    """A file may have the same prompt in several rows."""
    study = served(make, workload={"prompts": 10**6, "distinct": 3}, keeps_prompts=True)
    assert study.found("prompts_repeat").evidence["prompts"] == 3


@pytest.mark.parametrize(("made", "differs"), [(10_000.0, False), (10_150.0, False), (20_000.0, True), (1.0, True)])
def test_somebody_else_at_the_server(make, made, differs):
    """The server's own count is compared with what came, less what the edges may hold."""
    server = {"output_tokens": made, "received_tokens": 10_000.0}
    assert ("server_counts_differ" in served(make, server=server).codes()) is differs


def test_what_the_server_told_is_a_remark(make):
    """Levels over all edges, and counts."""
    server = {
        "requests_running_start": 4.0,
        "requests_running_end": 6.0,
        "requests_waiting_start": 0.0,
        "requests_waiting_end": 0.0,
        "kv_cache_used_start": 0.5,
        "kv_cache_used_end": 0.75,
        "preemptions": 3.0,
        "seconds": 10.0,
    }
    found = served(make, server=server).found("server_told")
    assert found.severity == "info"
    assert "requests running 4 to 6, waiting 0, KV cache 50.0% to 75.0% full, 3 preemptions" in found.message
    assert "nothing" not in found.message
    assert "server_told" not in served(make).codes()


@pytest.mark.parametrize("edge", ["start", "end"])
def test_a_reading_of_the_server_that_failed_is_told(make, edge):
    """What the other reading says stays; what is counted between two is not known, and is compared with nothing."""
    one = Observed(10**9, {"requests_running": 4.0}, {"output_tokens": 5.0})
    server = beside(*((one, None) if edge == "start" else (None, one)), ())
    assert server == {f"requests_running_{edge}": 4.0}
    study = served(make, server=server)
    told = "requests running 4, nothing at an edge of 1 of 1 windows, whose counts are not known"
    assert told in study.found("server_told").message
    assert "server_counts_differ" not in study.codes()
    assert beside(None, None, ()) == {}
