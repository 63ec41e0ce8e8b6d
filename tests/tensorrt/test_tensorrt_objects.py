"""Objects are made of plain values and names, arrive, and are refused where there is none."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import attrs
import pytest
import torch

from llem.config.models import Sampling
from llem.errors import ConfigError
from llem.models.spec import ModelSpec
from llem_tensorrt.sections import GuidedDecoding

FOLDER = ModelSpec("./m", "folder", "real", "m", path="/nonexistent/m", config={"model_type": "llama"})
BACKEND = {"guided_decoding_backend": "xgrammar"}
GUIDES = {
    "json": {"type": "object"},
    "regex": "a*b",
    "grammar": "root ::= [ab]",
    "json_object": True,
    "structural_tag": "<a>",
}


class Processor:
    """Stands for a logits processor that someone wrote."""


@pytest.fixture(autouse=True)
def _mine(monkeypatch):
    module = ModuleType("mine")
    module.Processor, module.made = Processor, Processor()
    monkeypatch.setitem(sys.modules, "mine", module)


@pytest.fixture
def params(load, control, requests_of):
    """SamplingParams of a request under these options."""

    def make(options, spec=None):
        engine = load(options, spec)
        engine.generate(requests_of((3, 2)), Sampling())
        json.dumps(engine.effective_config(), allow_nan=False)
        return control.generated[-1][1]["sampling_params"]

    return make


@pytest.mark.parametrize("name", [field.name for field in attrs.fields(GuidedDecoding)])
def test_guide_arrives(params, name):
    """Each guide is handed over in the library's own class."""
    options = {"guided_decoding": GuidedDecoding(**{name: GUIDES[name]}), "extra": BACKEND}
    found = params(options, FOLDER).guided_decoding
    assert type(found).__name__ == "GuidedDecodingParams"
    assert getattr(found, name) == GUIDES[name]


def test_logits_processors_arrive(params):
    """A class is made into an object, an object is taken as it is, a list stays one."""
    assert isinstance(params({"extra_sampling": {"logits_processor": "mine:Processor"}}).logits_processor, Processor)
    found = params({"extra_sampling": {"logits_processor": ["mine:made", "mine:Processor"]}}).logits_processor
    assert found[0] is sys.modules["mine"].made
    assert isinstance(found[1], Processor)


def test_objects_of_the_engine_arrive(params, control):
    """So do those that belong to the engine, beside what switches them on."""
    extra = {"batched_logits_processor": "mine:Processor", "checkpoint_loader": "mine:made"}
    found = params({"extra": extra, "extra_sampling": {"apply_batched_logits_processor": True}})
    assert found.apply_batched_logits_processor is True
    assert isinstance(control.llm["batched_logits_processor"], Processor)
    assert control.llm["checkpoint_loader"] is sys.modules["mine"].made


def test_additional_outputs_arrive(params):
    """Names of further outputs become the library's own objects."""
    [found] = params({"extra_sampling": {"additional_model_outputs": [{"name": "hidden"}]}}).additional_model_outputs
    assert (found.name, found.gather_context) == ("hidden", False)


def test_bias_arrives(params):
    """Biases of a few tokens become a tensor over the vocabulary."""
    bias = params({"extra_sampling": {"embedding_bias": {"7": 2.5}}}).embedding_bias
    assert bias.shape == (512,)
    assert (bias[7], bias.sum()) == (2.5, 2.5)
    assert bias.dtype == torch.float32


@pytest.mark.parametrize(
    ("extra", "spec", "words"),
    [
        ({"logits_processor": "mine:Nothing"}, None, "there is no mine:Nothing"),
        ({"logits_processor": "nowhere:Nothing"}, None, "there is no nowhere:Nothing"),
        ({"logits_processor": 3}, None, 'write "module:name"'),
        ({"embedding_bias": {"512": 1.0}}, None, "no token of a vocabulary of 512"),
        ({"embedding_bias": {"1": 1.0}}, FOLDER, "not known in advance"),
        ({"additional_model_outputs": [{"nam": "x"}]}, None, "nam"),
    ],
)
def test_what_names_nothing(params, extra, spec, words):
    """A name, a token or a setting that there is not is refused with what to write."""
    with pytest.raises(ConfigError) as caught:
        params({"extra_sampling": extra}, spec)
    assert words in str(caught.value)
