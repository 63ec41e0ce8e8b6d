"""Scores equal those of lm-eval's own `hf` model on the same weights, item by item."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest

from llem.config.models import Sampling
from llem.evaluators.items import follows, standard_error
from llem_lmeval.config import LmEvalOptions
from llem_lmeval.tasks import find

#: Natural logarithms of probabilities, of float32 sums in another order; a whole text has thousands, which lm-eval adds
#: up in float32.
NATS, SHARE = 1e-4, 2e-7


def _own(path: str, options: LmEvalOptions, task: str, max_length: int, batch_size: int = 3) -> dict[str, Any]:
    """What lm-eval says by itself."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lm = HFLM(
            pretrained=path,
            device="cpu",
            dtype="float32",
            batch_size=batch_size,
            max_length=max_length,
            add_bos_token=options.add_bos_token,
        )
        chat = options.apply_chat_template
        return dict(
            simple_evaluate(
                model=lm,
                tasks=[task],
                task_manager=find(options),
                num_fewshot=options.num_fewshot,
                limit=options.limit,
                bootstrap_iters=options.bootstrap_iters,
                apply_chat_template=chat,
                fewshot_as_multiturn=chat if options.fewshot_as_multiturn is None else options.fewshot_as_multiturn,
                system_instruction=options.system_instruction,
                gen_kwargs=None if options.gen_kwargs is None else dict(options.gen_kwargs),
            )
        )


@pytest.fixture(autouse=True)
def _one_process(monkeypatch):
    """lm-eval itself would fork, ask git for a hash and start programs that tell of the machine."""
    import lm_eval.evaluator

    monkeypatch.setenv("DISABLE_MULTIPROC", "1")
    monkeypatch.setattr(lm_eval.evaluator, "get_git_commit_hash", lambda: "")
    monkeypatch.setattr(lm_eval.evaluator, "add_env_info", lambda results: None)


@pytest.fixture
def both(loaded, tasks, monkeypatch):
    """Results and samples of lm-eval on the engine and on its own model, of one section."""

    def run(task: str, kind: str = "bos", **settings: Any):
        from llem_lmeval import evaluator

        options = LmEvalOptions(tasks=(task,), include_path=(tasks,), **settings)
        kept: list[dict[str, Any]] = []
        evaluate = evaluator.evaluate
        monkeypatch.setattr(evaluator, "evaluate", lambda **given: kept.append(evaluate(**given)) or kept[-1])
        one = loaded(kind)
        scores = one.scores(options)
        answers = (
            find(options).task_index["toy_choice" if task == "toy_choices" else task].cfg.get("output_type")
            == "generate_until"
        )
        reads = one.engine.context_length() if answers else one.engine.scored_length() - 1
        return scores, kept[0], _own(one.path, options, task, reads)

    return run


def _same(ours: dict[str, Any], theirs: dict[str, Any]) -> int:
    """Compare all samples; how many responses are equal texts."""
    texts = 0
    assert ours["samples"].keys() == theirs["samples"].keys()
    for task, rows in theirs["samples"].items():
        assert len(ours["samples"][task]) == len(rows)
        for mine, other in zip(ours["samples"][task], rows, strict=True):
            assert (mine["doc_hash"], mine["prompt_hash"], mine["filter"]) == (
                other["doc_hash"],
                other["prompt_hash"],
                other["filter"],
            )
            for one, two in zip(mine["resps"], other["resps"], strict=True):
                first, second = one[0], two[0]
                if isinstance(second, str):
                    assert first == second
                    texts += 1
                elif isinstance(second, tuple):
                    assert first[0] == pytest.approx(second[0], abs=NATS)
                    assert first[1] == second[1]
                else:
                    assert first == pytest.approx(second, abs=NATS, rel=SHARE)
    return texts


def _figures(results: dict[str, Any], name: str) -> dict[str, float]:
    return {
        key: value
        for key, value in results["results"][name].items()
        if "," in key and isinstance(value, (int, float)) and "_stderr" not in key
    }


@pytest.mark.parametrize("kind", ["bos", "quiet", "none"])
@pytest.mark.parametrize(
    "task", ["toy_choice", "toy_phrases", "toy_target", "toy_bare", "toy_text", "toy_far", "toy_norm_first"]
)
def test_likelihoods_are_those_of_lm_eval(both, task, kind):
    """Choices of one and of several tokens, empty contexts, rolling windows and cut contexts, with and without BOS."""
    scores, ours, theirs = both(task, kind)

    _same(ours, theirs)
    for key, value in _figures(theirs, task).items():
        metric = key.removesuffix(",none")
        found = next(one for one in scores if one.metric == metric)
        assert found.value == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("kind", ["bos", "quiet", "none"])
@pytest.mark.parametrize("task", ["toy_answer", "toy_answer_far", "toy_filtered"])
def test_answers_are_those_of_lm_eval(both, task, kind):
    """Greedy answers, cut at stop texts and the end of text; prompts that are cut on the left."""
    _, ours, theirs = both(task, kind)

    assert _same(ours, theirs) == 12 * (2 if task == "toy_filtered" else 1)
    said = [row["resps"][0][0] for row in ours["samples"][task]]
    assert len(set(said)) > 6, "the model says different things"
    assert any(len(one) > 5 for one in said)


@pytest.mark.parametrize("add_bos_token", [True, False])
@pytest.mark.parametrize("kind", ["bos", "quiet"])
@pytest.mark.parametrize("task", ["toy_choice", "toy_text", "toy_answer"])
def test_bos_token_is_added_as_asked(both, task, kind, add_bos_token):
    """The token is added where the tokenizer adds none, and left out where it does."""
    _, ours, theirs = both(task, kind, add_bos_token=add_bos_token)

    _same(ours, theirs)


def test_bos_token_changes_likelihoods(loaded, tasks):
    """So the comparisons above can fail."""
    given = {"tasks": ("toy_choice",), "include_path": (tasks,)}
    with_it, without = (
        loaded("quiet").scores(LmEvalOptions(**given, add_bos_token=asked))[0].items[0].response
        for asked in (True, False)
    )

    assert with_it != without


@pytest.mark.parametrize("settings", [{}, {"num_fewshot": 2}, {"num_fewshot": 2, "fewshot_as_multiturn": False}])
@pytest.mark.parametrize("task", ["toy_choice", "toy_answer"])
def test_chat_template_is_applied_as_lm_eval_does(both, task, settings):
    """The template's own BOS stands alone, with a system message and examples as turns or as one text."""
    scores, ours, theirs = both(
        task, apply_chat_template=True, system_instruction="Be brief.", gen_kwargs={"max_gen_toks": 8}, **settings
    )

    _same(ours, theirs)
    assert scores[0].n == 12
    assert "<|user|>" in ours["samples"][task][0]["arguments"][0][0]


@pytest.mark.parametrize("task", ["toy_choice", "toy_target", "toy_answer"])
def test_examples_are_those_of_lm_eval(both, task):
    """The same seed draws the same examples, in the same order."""
    _, ours, theirs = both(task, num_fewshot=3)

    _same(ours, theirs)
    assert ours["samples"][task][0]["arguments"][0][0].count("Q:") == 4


@pytest.mark.parametrize("task", ["toy_group", "toy_choices"])
def test_group_is_pooled_as_lm_eval_does(both, task):
    """A group's figure and error; a tag, for which lm-eval has no figure, gets the same."""
    scores, ours, theirs = both(task)
    group = theirs["results"].get("toy_group")

    _same(ours, theirs)
    assert [(one.task, one.metric) for one in scores[:3]] == [
        (task, "acc"),
        ("toy_choice", "acc"),
        ("toy_choice", "acc_norm"),
    ]
    if group:
        assert scores[0].value == pytest.approx(group["acc,none"])
        assert scores[0].stderr == pytest.approx(group["acc_stderr,none"])
    assert scores[0].value == pytest.approx(sum(one.value for one in scores[0].items) / 24)
    assert scores[0].n == 24
    assert len({one.id for one in scores[0].items}) == 24


@pytest.mark.parametrize("task", ["toy_choice", "toy_target", "toy_text", "toy_norm_first", "toy_group"])
def test_items_make_the_score(loaded, tasks, task):
    """The weighted mean of the items, or e to it, is the score."""
    for score in loaded().scores(LmEvalOptions(tasks=(task,), include_path=(tasks,))):
        mean = sum(one.value * one.weight for one in score.items) / sum(one.weight for one in score.items)
        assert score.value == pytest.approx({"mean": mean, "exp": math.exp(mean)}[score.aggregation])


def test_first_metric_of_the_task_stands_for_it(loaded, tasks):
    """Its `metric_list` says which is first, not the order in which lm-eval computes them."""
    scores = loaded().scores(LmEvalOptions(tasks=("toy_norm_first",), include_path=(tasks,)))

    assert [one.metric for one in scores] == ["acc_norm", "acc"]


def test_filters_are_named(loaded, tasks):
    """The first filter stands for the task; each has its own answers."""
    scores = loaded().scores(LmEvalOptions(tasks=("toy_filtered",), include_path=(tasks,)))

    assert [one.metric for one in scores] == ["exact_match.first-word", "exact_match.as-it-is"]
    assert all(one.items[0].response for one in scores)


def test_standard_errors_of_means_are_those_of_lm_eval(both):
    """By the same formula. lm-eval resamples a perplexity's; ours follows from its items."""
    scores, _, theirs = both("toy_target", bootstrap_iters=500)
    figures = theirs["results"]["toy_target"]
    [mean, perplexity] = sorted(scores, key=lambda one: one.aggregation, reverse=True)

    assert mean.stderr == pytest.approx(figures[f"{mean.metric}_stderr,none"])
    assert perplexity.stderr == pytest.approx(standard_error(perplexity.items, "exp"))


def test_figures_of_texts_have_standard_errors_too(loaded, tasks):
    """lm-eval states none; the items give one, whether or not anything is resampled."""
    scores = loaded().scores(LmEvalOptions(tasks=("toy_text",), include_path=(tasks,), bootstrap_iters=0))

    for one in scores:
        assert one.stderr == pytest.approx(standard_error(one.items, one.aggregation))
        assert one.stderr > 0


def test_a_score_without_parts_has_no_items(loaded, tasks):
    """F1 is of all items together."""
    first = loaded().scores(LmEvalOptions(tasks=("toy_f1",), include_path=(tasks,)))[0]

    assert (first.aggregation, first.items, first.n) == ("other", (), 12)


def test_an_empty_text_that_costs_something_is_no_item(both):
    """lm-eval counts the token that begins it, and no byte: the items would make another score than is stated."""
    scores, ours, theirs = both("toy_empty")
    per_byte = next(one for one in scores if one.metric == "bits_per_byte")

    _same(ours, theirs)
    assert per_byte.value == pytest.approx(theirs["results"]["toy_empty"]["bits_per_byte,none"])
    assert (per_byte.aggregation, per_byte.items, per_byte.n) == ("other", (), 12)
    assert all(follows(one) for one in scores)


def test_a_context_of_spaces_is_followed_as_an_empty_one_is(loaded, tasks):
    """A tokenizer without a token that begins texts leaves nothing of it, and lm-eval's own model fails."""
    items = loaded("none").scores(LmEvalOptions(tasks=("toy_spaces",), include_path=(tasks,)))[0].items

    assert len({one.response for one in items}) > 6


def test_documents_that_are_there_twice_are_two_items(loaded, tasks):
    """Their names differ, and they are one cluster; another document stands for itself."""
    items = loaded().scores(LmEvalOptions(tasks=("toy_choice",), include_path=(tasks,)))[0].items

    assert items[7].id == f"{items[2].id}-2"
    assert items[7].cluster == items[2].cluster == items[2].id
    assert items[0].cluster == ""


def test_items_are_clustered_by_a_field(loaded, tasks):
    """Questions on one passage are no independent items."""
    options = LmEvalOptions(tasks=("toy_choice",), include_path=(tasks,), cluster_by="passage")
    items = loaded().scores(options)[0].items

    assert [one.cluster for one in items[:4]] == ["p0", "p1", "p2", "p0"]


def test_limit_takes_the_first_items(both):
    """As lm-eval does; more than there are is no mistake."""
    scores, ours, theirs = both("toy_choice", limit=5)

    _same(ours, theirs)
    assert scores[0].n == 5
    assert both("toy_choice", limit=500)[0][0].n == 12


@pytest.mark.parametrize("task", ["toy_choice", "toy_text", "toy_answer"])
def test_batch_size_changes_no_score(loaded, tasks, task):
    """Batches of any size give the same answers, and likelihoods up to rounding."""
    given = {"tasks": (task,), "include_path": (tasks,)}
    few, many = (loaded().scores(LmEvalOptions(**given, batch_size=size))[0] for size in (1, 100))

    assert few.value == pytest.approx(many.value, rel=1e-6)
    if task == "toy_answer":
        assert [one.response for one in few.items] == [one.response for one in many.items]


def test_sampled_answers_follow_the_seed(loaded, tasks):
    """The same seed gives the same answers and another one others; asked twice, the model may say two things."""
    given = {"tasks": ("toy_sampled",), "include_path": (tasks,)}
    first, again, other = (
        [one.response for one in loaded().scores(LmEvalOptions(**given, seed=seed))[0].items] for seed in (1, 1, 2)
    )

    assert first == again
    assert first != other


def test_max_length_cuts_texts(loaded, tasks, both):
    """As lm-eval's model does with the same figure."""
    from llem_lmeval.evaluator import LmEvalEvaluator

    options = LmEvalOptions(tasks=("toy_far",), include_path=(tasks,), max_length=40)
    one = loaded()
    evaluator = LmEvalEvaluator(options)
    items = evaluator.evaluate(one.engine, one.tokenizer, one.context("toy_far"))[0].items
    theirs = _own(one.path, options, "toy_far", 40)["samples"]["toy_far"]

    likelihoods = [[float(text) for text in item.response.split(": ")[1].split()] for item in items]
    assert likelihoods == [pytest.approx([resps[0][0] for resps in row["resps"]], abs=NATS) for row in theirs]
    assert evaluator.describe()["max_length"] == 40
    assert evaluator.describe()["cut_texts"] == 36


def test_settings_of_answers_reach_the_engine(loaded, tasks, monkeypatch):
    """As `Sampling`, under llem's names."""
    one, seen = loaded(), []
    generate = one.engine.generate
    monkeypatch.setattr(one.engine, "generate", lambda sent, how: seen.append((sent[0], how)) or generate(sent, how))
    wanted = {"do_sample": True, "temperature": 0.5, "top_p": 0.9, "top_k": 7, "min_p": 0.01, "repetition_penalty": 1.1}
    one.scores(LmEvalOptions(tasks=("toy_answer",), include_path=(tasks,), gen_kwargs=wanted, seed=9))

    request, sampling = seen[0]
    assert sampling == Sampling(
        temperature=0.5, top_p=0.9, top_k=7, min_p=0.01, repetition_penalty=1.1, seed=9, ignore_eos=False
    )
    assert (request.stop, request.output_tokens) == (("\n", " dog"), 24)
