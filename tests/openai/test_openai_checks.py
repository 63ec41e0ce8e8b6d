"""What is refused before anything is started or sent."""

from __future__ import annotations

import sys

import pytest

from llem.config.converter import structure
from llem.config.models import Sampling
from llem.errors import ConfigError
from llem.models.resolve import resolve_model
from llem.study.plan.memory import UnknownMemory, estimate_memory
from llem.workloads.files import FileOptions
from llem.workloads.synthetic import SyntheticOptions
from llem_openai.backend import OpenAIBackend
from llem_openai.checks import unheld
from llem_openai.config import OpenAIOptions

#: options, changes of the experiment, parameter that is refused, words of the message
REFUSED = [
    ({"base_url": "http://192.0.2.1:8000/v1"}, {}, "openai.base_url", "another machine"),
    ({"base_url": "http://192.0.2.1:8000/v1"}, {}, "openai.base_url", "base_url: 192.0.2.1 is no address of this"),
    ({"base_url": "http://nowhere.invalid/v1"}, {}, "openai.base_url", "cannot be resolved"),
    ({"base_url": "127.0.0.1:8000"}, {}, "openai.base_url", "is not an HTTP address"),
    ({"base_url": "http://127.0.0.1:8/v1/chat/completions"}, {}, "openai.base_url", "write http://127.0.0.1:8/v1"),
    ({"base_url": "http://127.0.0.1:8/v1/completions/"}, {}, "openai.base_url", "write http://127.0.0.1:8/v1"),
    ({"base_url": "http://127.0.0.1:port/v1"}, {}, "openai.base_url", "no valid port"),
    ({"base_url": "http://me:secret@127.0.0.1/v1"}, {}, "openai.base_url", "more than an address"),
    ({"command": "no-such-program --port 1"}, {}, "openai.command", "there is no program 'no-such-program'"),
    ({"command": [sys.executable, "--api-key", "x"]}, {}, "openai.command", "environment variable"),
    ({"ready_timeout_s": 5.0}, {}, "openai.ready_timeout_s", "no effect without command"),
    ({}, {"processes": 2}, "processes", "not restarted"),
    ({}, {"dtype": "bfloat16"}, "dtype", "set `dtype: auto` (as a flag, `--set dtype=auto`)"),
    ({}, {"weights_seed": 3}, "weights_seed", "leave weights_seed out"),
    ({"endpoint": "chat", "prompt": "token_ids"}, {}, "openai.prompt", "text only"),
    ({"prompt": "text"}, {"workload": FileOptions(path="x", chat=True)}, "workload.chat", "openai.endpoint"),
    ({"extra_body": {"model": "x"}}, {}, "openai.extra_body.model", "openai.served_model"),
    ({"extra_body": {"ignore_eos": True}}, {}, "openai.extra_body.ignore_eos", "sampling.ignore_eos"),
    ({"extra_body": {"n": 4}}, {}, "openai.extra_body.n", "change what is counted"),
    ({"ignore_eos_fields": ()}, {}, "openai.ignore_eos_fields", "is empty"),
    ({"ignore_eos_fields": ()}, {"sampling": Sampling(ignore_eos=False)}, "openai.ignore_eos_fields", "no effect"),
    ({}, {"sampling": Sampling(top_k=3)}, "sampling.top_k", "temperature 0"),
]


def refusals(experiment, options, changes):
    """Findings of severity error, by parameter."""
    asked = experiment(options, **changes)
    found = OpenAIBackend(asked.options).check(asked, resolve_model(asked.model))
    return {one.evidence["parameter"]: one.message for one in found if one.severity == "error"}


@pytest.mark.parametrize(("options", "changes", "parameter", "words"), REFUSED)
def test_refused(experiment, options, changes, parameter, words):
    """One refusal, which names the parameter and says what would be right."""
    found = refusals(experiment, options, changes)
    assert list(found) == [parameter]
    assert words in found[parameter]


def test_all_defaults_but_the_dtype_are_accepted(experiment):
    """A server on this machine needs nothing else."""
    assert refusals(experiment, {}, {}) == {}


@pytest.mark.parametrize("options", [{"endpoint": "chat"}, {"prompt": "text"}])
def test_text_is_doubtful(experiment, options):
    """A warning, which makes the result not publishable."""
    asked = experiment(options)
    [found] = OpenAIBackend(asked.options).check(asked, resolve_model(asked.model))
    assert (found.code, found.severity) == ("prompt_as_text", "warning")


@pytest.mark.parametrize(
    ("raw", "path", "words"),
    [
        ({"command": "vllm 'serve"}, "command", "close the quote"),
        ({"command": []}, "command", "is empty"),
        ({"command": ""}, "command", "is empty"),
        ({"api_key_env": "sk-1234"}, "api_key_env", "not the key itself"),
        ({"endpoint": "completion"}, "endpoint", "completions"),
        ({"ignore_eos_fields": ["stop"]}, "ignore_eos_fields[0]", "must be"),
        ({"timeout_s": 0}, "timeout_s", "between"),
    ],
)
def test_values_that_cannot_be(raw, path, words):
    """Faults of a single value are told with its path."""
    with pytest.raises(ConfigError) as failed:
        structure(OpenAIOptions, raw)
    assert [problem.path for problem in failed.value.problems] == [path]
    assert words in str(failed.value)


def test_a_command_may_be_a_list_or_text():
    """Both are taken as they are written."""
    assert structure(OpenAIOptions, {"command": "a 'b c'"}).command == "a 'b c'"
    assert structure(OpenAIOptions, {"command": ["a", "b c"]}).command == ("a", "b c")


def test_memory_is_the_servers_matter(experiment):
    """No estimate, not even by the sizes of a model that llem knows; the plan shows why."""
    asked = experiment({}, device="cuda", gpus=(0,))
    held = OpenAIBackend(asked.options).holding(asked, resolve_model("shape:llama-3.1-8b"))
    found = estimate_memory(asked, resolve_model("shape:llama-3.1-8b"), held)

    assert found == UnknownMemory("the server decides how it holds the model")


def test_a_chat_takes_prompts_as_messages(experiment):
    """`workload.chat: true` makes each prompt a message, which the server puts into its own template."""
    asked = experiment({"endpoint": "chat"}, workload=FileOptions(path="x", chat=True))
    found = OpenAIBackend(asked.options).check(asked, resolve_model(asked.model))
    assert [one.code for one in found] == ["prompt_as_text"]


@pytest.mark.parametrize(
    ("workload", "context", "tokenized", "message"),
    [
        (FileOptions(path="a.txt"), 2048, True, None),
        (FileOptions(path="a.txt"), None, True, "the server tells no context"),
        (FileOptions(path="a.txt"), 2048, False, "nothing here has the tokenizer or the chat template of its model"),
        (FileOptions(path="a.txt", too_long="skip"), None, True, "context, so `too_long: skip` leaves none out"),
        (SyntheticOptions(), None, True, None),  # of one length, which the user chose
        (None, None, True, None),
    ],
)
def test_prompts_that_nothing_could_be_held_against_are_told(experiment, workload, context, tokenized, message):
    """`too_long` has no effect then."""
    found = list(unheld(experiment(workload=workload), context, tokenized=tokenized))
    assert [one.code for one in found] == ([] if message is None else ["prompts_unheld"])
    assert message is None or found[0].message.endswith(message)
