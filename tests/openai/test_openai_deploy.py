"""What is told of a server: its command without its keys, and a request as llem sent it."""

from __future__ import annotations

import ast
import json
import shlex
from typing import Any

import pytest

from llem.config.models import Experiment, Sampling
from llem.models.spec import ModelSpec
from llem.workloads.synthetic import SyntheticOptions
from llem_openai.config import OpenAIOptions
from llem_openai.deploy import commands

MODEL = ModelSpec("org/model", "hub", "real", "f")
KEY = "sk-secret-1234"
#: Commands that hold a key, and how they are told.
COMMANDS = [
    (f"serve m --api-key {KEY} --max-num-batched-tokens 64", "serve m --api-key YOUR_KEY --max-num-batched-tokens 64"),
    (f"serve m --api-key={KEY}", "serve m --api-key=YOUR_KEY"),
    (f"env VLLM_API_KEY={KEY} HF_TOKEN={KEY} serve m", "env VLLM_API_KEY=YOUR_KEY HF_TOKEN=YOUR_KEY serve m"),
    (
        f"bash -c 'serve m --api-key {KEY} --max-tokens 5'",
        "bash -c 'serve m --api-key YOUR_KEY --max-tokens 5'",
    ),
    ("serve m --tokenizer t --api-key-file f", "serve m --tokenizer t --api-key-file f"),
]


def told(sampling: Sampling | None = None, **options: Any):
    workload = SyntheticOptions(output_tokens=64)
    asked = Experiment(
        backend="openai", options=OpenAIOptions(**options), sampling=sampling or Sampling(), workload=workload
    )
    return commands(asked, MODEL)


@pytest.mark.parametrize(("command", "shown"), COMMANDS)
def test_the_command_is_told_without_keys(command: str, shown: str) -> None:
    """As text and as a list."""
    for given in (command, tuple(shlex.split(command))):
        found = told(command=given)
        assert found.shell.startswith(f"# the server\n{shown}\n")
        assert KEY not in found.shell + found.python + "".join(found.notes)


def test_a_request_is_as_llem_sent_it() -> None:
    """The body that curl sends is what the program sends, without what keeps an answer from ending."""
    sampling = Sampling(temperature=0.7, top_k=20)
    found = told(sampling, served_model="m", api_key_env="MY_KEY", extra_body={"priority": 1, "user_token": KEY})
    words = shlex.split(found.shell.replace("\\\n", " ").removeprefix("# a request\n"))
    body = json.loads(words[words.index("-d") + 1])
    calls = [one for one in ast.walk(ast.parse(found.python)) if isinstance(one, ast.Call)]
    [call] = [one for one in calls if ast.unparse(one.func) == "client.completions.create"]
    sent = {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}
    more = sent.pop("extra_body")

    assert body == {
        "model": "m",
        "prompt": "Hello",
        "max_tokens": 64,
        "temperature": 0.7,
        "top_k": 20,
        "priority": 1,
        "user_token": "YOUR_KEY",
    }
    assert {**sent, **more} == body
    assert words[words.index("Authorization: Bearer $MY_KEY") - 1] == "-H"
    assert 'api_key=os.environ["MY_KEY"]' in found.python


def test_chat_has_messages_and_its_own_path() -> None:
    found = told(endpoint="chat", base_url="http://127.0.0.1:9/v1/")

    assert "curl http://127.0.0.1:9/v1/chat/completions" in found.shell
    assert "client.chat.completions.create(" in found.python


def test_what_is_not_known_is_said() -> None:
    """A server that ran already, and the name of its model."""
    notes = "\n".join(told().notes)

    assert "the server is your own" in notes
    assert "MODEL" in notes
    assert "sampling.ignore_eos" in notes
