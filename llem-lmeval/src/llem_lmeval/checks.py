"""What must hold of tasks before anything is measured: that they can be read, asked and scored here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from llem.errors import ConfigError, LlemError, Problem
from llem.foreign.files import Unread, read
from llem.models.spec import ModelSpec
from llem_lmeval.answers import CHOICE, answer_settings, unknown_settings
from llem_lmeval.config import LmEvalOptions
from llem_lmeval.quiet import Draws, quiet
from llem_lmeval.scores import Key, first_metric
from llem_lmeval.tasks import Loaded, find, load

__all__ = ["Facts", "configure", "facts", "no_template", "template_problems"]


@attrs.frozen
class Facts:
    """What is known of a section's tasks before anything is measured.

    Attributes:
        needs: capabilities of an engine that the tasks use.
        problems: all that is wrong.
    """

    needs: frozenset[str]
    problems: tuple[Problem, ...]


#: Of sections without problems, by all that they say: a study asks for each of its experiments, which share them.
_known: dict[str, Facts] = {}


def facts(options: LmEvalOptions) -> Facts:
    """Load the tasks, unless that was done for the same section and files; what is wrong is looked at anew."""
    key = repr((options, _stamp(options)))
    if key not in _known:
        try:
            found = _looked_at(options)
        except ConfigError as error:
            found = Facts(frozenset(), error.problems)
        if found.problems:
            return found
        _known[key] = found
    return _known[key]


def _stamp(options: LmEvalOptions) -> list[tuple[str, int]]:
    """Times of all files in the user's folders."""
    files = (file for path in options.include_path for file in sorted(Path(path).expanduser().rglob("*")))
    return [(str(file), file.stat().st_mtime_ns) for file in files if file.is_file()]


def _looked_at(options: LmEvalOptions) -> Facts:
    index = find(options)
    needs: frozenset[str] = frozenset()
    problems = []
    if options.fewshot_as_multiturn and not options.apply_chat_template:
        about = "examples are turns of a conversation in a chat template only"
        problems.append(Problem("quality.fewshot_as_multiturn", about, "set apply_chat_template, or leave it out"))
    if unknown := unknown_settings(options.gen_kwargs or {}):
        problems.append(unknown)
        options = attrs.evolve(options, gen_kwargs=None)  # told once, also where no task generates
    for place, name in enumerate(options.tasks):
        path = f"quality.tasks[{place}]"
        with quiet(), Draws(options.seeds):
            try:
                loaded = load(index, name)
                configure(loaded, options)
            except Exception as error:  # files, data sets and code of the task
                problems.append(_loading_problem(path, name, error))
                continue
            needs |= _needs_of(loaded)
            problems += _problems_of(path, loaded, options)
    return Facts(needs, tuple(problems))


def template_problems(options: LmEvalOptions, model: ModelSpec) -> list[Problem]:
    """A chat template that is asked for and is not there; a model of the Hub shows it only with its tokenizer."""
    if not options.apply_chat_template or model.source == "hub" or _has_template(model):
        return []
    return [no_template(model)]


def no_template(model: ModelSpec) -> Problem:
    """That this model has no chat template."""
    about = f"the tokenizer of {model.name} has no chat template"
    return Problem("quality.apply_chat_template", about, "leave it out, or use the instruction-tuned model")


def _has_template(model: ModelSpec) -> bool:
    folder = None if model.path is None else Path(model.path)
    if folder is None:
        return False
    settings = folder / "tokenizer_config.json"
    try:
        named = settings.is_file() and b'"chat_template"' in read(settings)
    except Unread:  # no tokenizer will be made of it
        named = False
    return named or any(folder.glob("chat_template*"))


def configure(loaded: Loaded, options: LmEvalOptions) -> None:
    """Change the loaded tasks to the section's settings, as `lm_eval.simple_evaluate` does."""
    for task in loaded.tasks.values():
        if task.get_config("output_type") == "generate_until" and options.gen_kwargs:
            task.set_config(key="generation_kwargs", value=dict(options.gen_kwargs), update=True)
        own = task.get_config("num_fewshot")
        if own is None or (options.num_fewshot is not None and own != 0):
            task.set_config(key="num_fewshot", value=options.num_fewshot or 0)
        task.set_fewshot_seed(seed=options.seeds.fewshot)


def _needs_of(loaded: Loaded) -> frozenset[str]:
    """Capabilities of an engine that these tasks use."""
    kinds = {task.OUTPUT_TYPE for task in loaded.tasks.values()}
    return frozenset("stop" if kind == "generate_until" else "loglikelihood" for kind in kinds)


def _loading_problem(path: str, name: str, error: Exception) -> Problem:
    """Why a task cannot be read, and what would be right."""
    cause = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    if isinstance(error, LlemError):
        return Problem(path, f"{name}: {error.message}", error.hint)
    if isinstance(error, (ImportError, ModuleNotFoundError)):
        hint = "install what the message names"
    elif isinstance(error, FileNotFoundError) and not isinstance(error, ConnectionError):
        hint = "check the paths in its `dataset_kwargs`: they are relative to its YAML file, or to where llem runs"
    elif isinstance(error, ConnectionError) or "on the Hub" in cause:
        hint = "load its data once with a network, which leaves them in the cache, or take a task with local data"
    else:
        hint = "mend the task's YAML file or its data"
    return Problem(path, f"the task {name} cannot be loaded: {type(error).__name__}: {cause}", hint)


def _problems_of(path: str, loaded: Loaded, options: LmEvalOptions) -> Iterator[Problem]:
    """All that is wrong with a task that was loaded and configured."""
    for name, task in loaded.tasks.items():
        if getattr(task, "UNSAFE_CODE", False) and not options.confirm_run_unsafe_code:
            about = f"{name} runs code that the model wrote"
            yield Problem("quality.confirm_run_unsafe_code", about, "set it to true where that can do no harm")
        if getattr(task, "MULTIMODAL", False):
            yield Problem(path, f"{name} needs images or sound, which llem gives no engine", "choose a task of text")
            continue
        yield from _examples(name, task)
        yield from _clusters(name, task, options.cluster_by)
        yield from _trial(path, name, task, options)
    yield from _pooled(path, loaded)


def _examples(name: str, task: Any) -> Iterator[Problem]:
    """Examples are taken from a split, without the question itself where it is the same split."""
    wanted, sampler = task.config.num_fewshot, getattr(task, "sampler", None)
    if not wanted or sampler is None:
        return
    same = task.fewshot_cfg.split is not None and task.fewshot_cfg.split == task.config.test_split
    there = len(sampler.fewshot_indices or sampler.df) - same
    if wanted > there:
        about = f"{wanted} examples, and {name} has {there} to choose from"
        yield Problem("quality.num_fewshot", about, f"at most {there}")


def _clusters(name: str, task: Any, field: str | None) -> Iterator[Problem]:
    if field is None:
        return
    document = task.eval_docs[0]
    if not isinstance(document, Mapping) or field not in document:
        known = ", ".join(document) if isinstance(document, Mapping) else "none"
        yield Problem("quality.cluster_by", f"documents of {name} have no field {field!r}", f"they have {known}")


def _trial(path: str, name: str, task: Any, options: LmEvalOptions) -> Iterator[Problem]:
    """The first request is made, as all will be, but for the chat template."""
    if task.OUTPUT_TYPE == "generate_until":
        try:
            made = answer_settings(task.config.generation_kwargs, options.seeds.torch)
        except ConfigError as error:
            yield from (attrs.evolve(one, message=f"{name}: {one.message}") for one in error.problems)
            return
        idle = [name for name in CHOICE if (options.gen_kwargs or {}).get(name)]
        if idle and not made.sampling.temperature:
            about = f"{name}: {', '.join(idle)} has no effect, because answers are greedy"
            yield Problem("quality.gen_kwargs", about, "set do_sample: true and a temperature above 0")
    if next(_examples(name, task), None) is not None:
        return
    try:
        task.build_all_requests(limit=1, system_instruction=options.system_instruction)
    except Exception as error:  # templates and the task's own code
        yield _loading_problem(path, name, error)
    task.set_fewshot_seed(seed=options.seeds.fewshot)


def _pooled(path: str, loaded: Loaded) -> Iterator[Problem]:
    """Whether several tasks have one score together."""
    group = loaded.groups.get(loaded.name)
    if loaded.kind == "task" or (group is not None and group.has_aggregation):
        return
    firsts = {name: first_metric(task) for name, task in loaded.tasks.items()}
    if len(set(firsts.values())) > 1:
        names = ", ".join(list(firsts)[:8]) + (", …" if len(firsts) > 8 else "")
        about = f"{loaded.name} has no score of its own, and its tasks are scored by {_listed(firsts.values())}"
        yield Problem(path, about, f"name the tasks: {names}")


def _listed(names: Iterable[Key]) -> str:
    return " and ".join(sorted({".".join(name) for name in names}))
