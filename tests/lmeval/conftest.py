"""A small model with a tokenizer that knows beginning, end and chat; and tasks of its own, without a network."""

from __future__ import annotations

import gc
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llem.backends.base import Engine, Placement
from llem.config.models import Experiment
from llem.evaluators.base import Context, Score
from llem.models.resolve import resolve_model
from llem.models.spec import ModelSpec
from llem.models.tokenizer import Tokenizer, load_tokenizer

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports transformers or datasets: no test may reach the network

WORDS = ["red", "blue", "green", "cat", "dog", "bird", "house", "tree", "river", "runs", "sleeps", "sings", "near"]
WORDS += ["under", "over", "the", "a", "big", "small", "old", "new"]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}"
    "{% if not loop.last or add_generation_prompt %}</s>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
#: Tokens that the model reads at most: some texts of the tasks are longer.
POSITIONS = 128


def _sentence(chance: random.Random, words: int) -> str:
    return " ".join(chance.choice(WORDS) for _ in range(words))


def _documents(chance: random.Random, count: int) -> list[dict[str, Any]]:
    return [
        {
            "question": _sentence(chance, chance.choice([4, 8, 12])) + "?",
            "passage": f"p{place % 3}",
            "choices": chance.sample(WORDS[:9], 4),
            "long_choices": [_sentence(chance, chance.randint(2, 5)) for _ in range(3)],
            "answer": chance.randrange(3),
            "target": _sentence(chance, 2),
            "text": _sentence(chance, chance.choice([5, 40, 300])),
            "long": _sentence(chance, 220),
        }
        for place in range(count)
    ]


def _yaml(**settings: Any) -> str:
    return json.dumps(settings)  # JSON is YAML


def write_tasks(folder: Path) -> None:
    """YAML files of tasks, and their data beside them."""
    chance = random.Random(5)
    (folder / "data").mkdir(parents=True)
    for split, count in (("test", 12), ("train", 7)):
        rows = _documents(chance, count)
        if split == "test":
            rows[7] = rows[2]  # the same document twice
        (folder / "data" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    base = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "data/test.jsonl", "train": "data/train.jsonl"}},
        "test_split": "test",
        "training_split": "train",
        "fewshot_split": "train",
        "doc_to_text": "Q: {{question}}\nA:",
        "metadata": {"version": 1.0},
    }
    accuracy = [{"metric": one, "aggregation": "mean", "higher_is_better": True} for one in ("acc", "acc_norm")]
    choose = {"output_type": "multiple_choice", "doc_to_target": "answer", "metric_list": accuracy}
    answer = {
        "output_type": "generate_until",
        "doc_to_target": "target",
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        "generation_kwargs": {"until": ["\n", " dog"], "max_gen_toks": 24, "do_sample": False},
    }
    rolling = {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}"}
    take_first = {"function": "take_first"}
    filters = [
        {"name": "first-word", "filter": [{"function": "regex", "regex_pattern": "(\\w+)"}, take_first]},
        {"name": "as-it-is", "filter": [take_first]},
    ]
    tasks = {
        "toy_choice": {**choose, "doc_to_choice": "choices", "tag": ["toy_choices"]},
        "toy_phrases": {**choose, "doc_to_choice": "long_choices", "tag": ["toy_choices"]},
        "toy_far": {**choose, "doc_to_choice": "long_choices", "doc_to_text": "{{long}}"},
        "toy_norm_first": {**choose, "doc_to_choice": "long_choices", "metric_list": accuracy[::-1]},
        "toy_target": {
            "output_type": "loglikelihood",
            "doc_to_target": " {{target}}",
            "metric_list": [
                {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False},
                {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
            ],
        },
        "toy_bare": {
            "output_type": "loglikelihood",
            "doc_to_text": "",
            "doc_to_target": "{{target}}",
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        },
        "toy_spaces": {**choose, "doc_to_choice": "choices", "doc_to_text": "  ", "target_delimiter": ""},
        "toy_text": rolling,
        "toy_empty": {**rolling, "doc_to_target": "{{text if answer else ''}}"},
        "toy_answer": answer,
        "toy_answer_far": {**answer, "doc_to_text": "{{long}} </s> Q: {{question}}"},
        "toy_filtered": {**answer, "filter_list": filters},
        "toy_sampled": {
            **answer,
            "repeats": 2,
            "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8, "do_sample": True, "temperature": 1.0},
        },
        "toy_strange": {**answer, "generation_kwargs": {"until": ["\n"], "temprature": 0.3}},
        "toy_unsafe": {**answer, "unsafe_code": True},
        "toy_seen": {**answer, "doc_to_image": "question"},
        "toy_gone": {**answer, "dataset_kwargs": {"data_files": {"test": "data/gone.jsonl"}}},
        "toy_far_away": {**answer, "dataset_path": "nobody/has-this", "dataset_kwargs": {}},
        "toy_wrong_field": {**answer, "doc_to_text": "{{qestion}}"},
        "toy_f1": {
            **choose,
            "doc_to_choice": ["red", "blue"],
            "doc_to_target": "{{[0, 1, 1][answer]}}",
            "metric_list": [{"metric": "f1", "aggregation": "f1", "higher_is_better": True}],
            "tag": "toy_mixed",
        },
        "toy_answer_mixed": {**answer, "tag": "toy_mixed"},
    }
    for name, settings in tasks.items():
        (folder / f"{name}.yaml").write_text(_yaml(task=name, **{**base, **settings}))
    (folder / "functions.py").write_text("def chosen(docs):\n    return docs.select(range(4))\n")
    (folder / "toy_function.yaml").write_text(
        "include: toy_choice.yaml\ntask: toy_function\ntag: toy_functions\nprocess_docs: !function functions.chosen\n"
    )
    by_size = {"metric": "acc", "aggregation": "mean", "weight_by_size": True}
    (folder / "group.yaml").write_text(
        _yaml(group="toy_group", task=["toy_choice", "toy_phrases"], aggregate_metric_list=[by_size])
    )
    (folder / "broken.yaml").write_text("task: [\n")


@pytest.fixture(scope="session", autouse=True)
def _few_objects_to_collect() -> None:
    gc.freeze()


@pytest.fixture(scope="session")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of tasks."""
    folder = tmp_path_factory.mktemp("tasks")
    write_tasks(folder)
    return str(folder)


def write_model(folder: Path, *, bos: bool = True, adds_bos: bool = True) -> None:
    """A llama with random weights that are large enough to have opinions, and a tokenizer that was trained on WORDS."""
    import torch
    from tokenizers import Tokenizer as Fast
    from tokenizers import decoders, models, pre_tokenizers, processors, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    chance = random.Random(1)
    fast = Fast(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    fast.train_from_iterator([f"Q: {_sentence(chance, 12)}?\nA: {_sentence(chance, 3)}" for _ in range(300)], trainer)
    if bos and adds_bos:
        fast.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    names = {"eos_token": "</s>", **({"bos_token": "<s>"} if bos else {})}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=fast, **names)
    wrapped.chat_template = TEMPLATE if bos else None
    wrapped.save_pretrained(str(folder))
    config = LlamaConfig(
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=len(wrapped),
        max_position_embeddings=POSITIONS,
        bos_token_id=0 if bos else None,
        eos_token_id=1,
        initializer_range=0.25,
    )
    torch.manual_seed(3)
    LlamaForCausalLM(config).save_pretrained(str(folder))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of models: `bos` begins texts by itself; `quiet` has the token and does not; `none` has none."""
    made = {}
    for name, kind in {"bos": {}, "quiet": {"adds_bos": False}, "none": {"bos": False}}.items():
        folder = tmp_path_factory.mktemp("models") / name
        folder.mkdir()
        write_model(folder, **kind)
        made[name] = str(folder)
    return made


class Loaded:
    """A model on the PyTorch engine, and what evaluations of it need."""

    def __init__(self, path: str) -> None:
        from llem_pytorch.backend import PyTorchBackend
        from llem_pytorch.config import PyTorchOptions

        options = PyTorchOptions()
        self.path = path
        self.experiment = Experiment(model=path, backend="pytorch", dtype="float32", device="cpu", options=options)
        self.model: ModelSpec = resolve_model(path)
        self.tokenizer: Tokenizer = load_tokenizer(self.model)
        self.engine: Engine = PyTorchBackend(options).load(self.experiment, self.model, Placement("cpu"))

    def context(self, task: str, **changes: Any) -> Context:
        given = {"progress": lambda done, total: None, "check_stop": lambda: None, **changes}
        return Context(task, self.experiment, self.model, **given)

    def scores(self, options: Any, task: str | None = None) -> tuple[Score, ...]:
        """As the worker does."""
        from llem_lmeval.evaluator import LmEvalEvaluator

        evaluator = LmEvalEvaluator(options)
        context = self.context(task or options.tasks[0])
        evaluator.prepare(self.tokenizer, context)
        return tuple(evaluator.evaluate(self.engine, self.tokenizer, context))


@pytest.fixture(scope="session")
def loaded(models: dict[str, str]) -> Iterator[Callable[[str], Loaded]]:
    """Load a model by its kind, once."""
    found: dict[str, Loaded] = {}

    def get(kind: str = "bos") -> Loaded:
        if kind not in found:
            found[kind] = Loaded(models[kind])
        return found[kind]

    yield get
    for one in found.values():
        one.engine.close()
