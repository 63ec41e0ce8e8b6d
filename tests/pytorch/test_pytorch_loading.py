"""Folders, adapters, sizes, memory, and errors a user can mend."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from llem.backends.base import Placement
from llem.config.models import Sampling
from llem.errors import ConfigError, LlemError, MachineError
from llem.models.shapes import SHAPES, parameter_count
from llem.models.spec import ModelSpec
from llem_pytorch.architecture import architecture_of
from llem_pytorch.backend import PyTorchBackend

GREEDY = Sampling()
# peft asks transformers for an attribute by its old name
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def folder_spec(path) -> ModelSpec:
    return ModelSpec(str(path), "folder", "real", "folder", path=str(path))


@pytest.fixture
def folder(load, tmp_path):
    """A saved tiny model whose settings file asks for sampling."""
    model = load(dtype="bfloat16").model
    model.save_pretrained(tmp_path / "model")
    GenerationConfig(do_sample=True, temperature=0.6, top_p=0.9, eos_token_id=[2, 3], pad_token_id=4).save_pretrained(
        tmp_path / "model"
    )
    return tmp_path / "model"


@pytest.fixture
def adapter(load, tmp_path):
    """A saved LoRA adapter that is not the identity, for the tiny model."""
    peft = pytest.importorskip("peft")
    settings = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        peft.get_peft_model(load().model, settings).save_pretrained(tmp_path / "adapter")
    return str(tmp_path / "adapter")


def test_folder_round_trip(load, folder, requests_of):
    """A saved model gives the tokens of the model that was saved; auto keeps the dtype of its files."""
    batch = requests_of((4, 6), (9, 3))
    engine = load(spec=folder_spec(folder), dtype="auto")
    assert engine.effective_config()["dtype"] == "bfloat16"
    assert engine.generate(batch, GREEDY) == load(dtype="bfloat16").generate(batch, GREEDY)


def test_settings_of_the_model_do_not_leak(load, folder, requests_of):
    """generation_config.json changes nothing but special ids; what it asked for is shown as not applied."""
    engine = load(spec=folder_spec(folder), dtype="bfloat16", sampling=Sampling(ignore_eos=False))
    effective = engine.effective_config()
    assert effective["generation"]["do_sample"] is False
    assert (effective["generation"]["eos_token_id"], effective["generation"]["pad_token_id"]) == ([2, 3], 4)
    assert effective["model_generation_defaults_not_applied"] == {"do_sample": True, "temperature": 0.6, "top_p": 0.9}
    batch = requests_of((5, 8))
    assert engine.generate(batch, GREEDY) == engine.generate(batch, GREEDY)


@pytest.mark.parametrize("merge", [None, True])
def test_adapter(load, requests_of, adapter, merge):
    """An adapter from a folder changes the output, merged or not, in the dtype of the model, and is reported."""
    batch = requests_of((5, 12))
    engine = load({"adapter": adapter, "merge_adapter": merge}, dtype="bfloat16")
    assert type(engine.model).__name__ == "LlamaForCausalLM"
    assert engine.generate(batch, GREEDY)[0].token_ids != load(dtype="bfloat16").generate(batch, GREEDY)[0].token_ids
    told = engine.effective_config()["adapter"]
    assert told["name"] == adapter
    assert told["merged"] is bool(merge)
    if merge:
        assert told["parameters"] == 0
    else:
        assert (told["r"], told["alpha"], told["dtypes"]) == (4, 8, ["bfloat16"])
        assert told["target_modules"] == ["q_proj", "v_proj"]
        assert told["parameters"] > 0


def test_adapter_revision(load, monkeypatch):
    """The adapter is asked for at its revision."""
    peft, asked = pytest.importorskip("peft"), {}

    def fetch(name, **given):
        asked.update(name=name, **given)
        raise OSError("no such revision")

    monkeypatch.setattr(peft.PeftConfig, "from_pretrained", fetch)
    with pytest.raises(ConfigError, match="no such revision"):
        load({"adapter": "nobody/nothing", "adapter_revision": "v2"})
    assert asked == {"name": "nobody/nothing", "revision": "v2"}


def test_adapter_that_does_not_fit(load, tiny, adapter):
    """An adapter of another size is the user's mistake, said in one sentence."""
    with pytest.raises(ConfigError, match="other sizes than the model"):
        load({"adapter": adapter}, spec=tiny(hidden_size=32))


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        (folder_spec("/nonexistent/model"), ConfigError, "cannot load model '/nonexistent/model'"),
        (ModelSpec("nobody/nothing", "hub", "real", "x"), LlemError, "model 'nobody/nothing'"),
        (
            ModelSpec("shape:odd", "shape", "random", "x", config={"model_type": "no-such-type"}),
            ConfigError,
            "no-such-type",
        ),
    ],
)
def test_missing_model(load, spec, error, words):
    """A model that is not there gives one clear message with a hint."""
    with pytest.raises(error, match=words) as caught:
        load(spec=spec)
    assert caught.value.hint


def test_folder_without_weights(load, folder):
    """A folder that holds a configuration alone is refused."""
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="cannot load model"):
        load(spec=folder_spec(folder))


def test_folder_with_damaged_weights(load, folder):
    """A truncated download is refused, not a traceback."""
    (folder / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(ConfigError, match="cannot load model"):
        load(spec=folder_spec(folder))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu(experiment, tiny):
    """Asking for CUDA where torch has none is the machine's fault and says so."""
    asked = experiment(device="cuda")
    with pytest.raises(MachineError, match="finds no GPU"):
        PyTorchBackend(asked.options).load(asked, tiny(), Placement("cuda"))


def test_architecture(load):
    """Sizes and counts are those of the tiny llama, worked out by hand."""
    found = load(dtype="bfloat16").architecture()
    attention = 64 * 64 * 2 + 64 * 32 * 2
    layer = attention + 3 * 64 * 128 + 2 * 64
    assert found.parameters == 2 * layer + 64 + 2 * 512 * 64
    assert found.active_parameters == found.parameters - 512 * 64
    assert (found.layers, found.heads, found.kv_heads, found.head_dim, found.vocab_size) == (2, 4, 2, 16, 512)
    assert found.weight_bytes == 2 * found.parameters
    assert found.kv_bytes_per_token == 2 * 2 * 2 * 16 * 2
    assert (found.windows, found.experts, found.unfit) == ((), 1, None)
    assert found.output_parameters == 512 * 64
    assert found.read_bytes == 2 * found.active_parameters


def test_architecture_with_tied_embeddings(load, tiny):
    """A tied table is one table, and active, since it is the output projection."""
    tied, free = load(spec=tiny(tie_word_embeddings=True)).architecture(), load().architecture()
    assert tied.parameters == free.parameters - 512 * 64
    assert tied.active_parameters == tied.parameters == free.active_parameters


def test_architecture_of_a_mixture_of_experts(load, tiny, requests_of):
    """All experts are parameters, those of one token are active and read; it runs."""
    engine = load(spec=tiny(model_type="mixtral", num_local_experts=4, num_experts_per_tok=1))
    found, idle = engine.architecture(), 2 * 3 * (3 * 64 * 128)
    assert found.experts == 4
    assert found.active_parameters == found.parameters - 512 * 64 - idle
    assert found.weight_bytes - found.read_bytes == 4 * (512 * 64 + idle)
    assert len(engine.generate(requests_of((3, 2)), GREEDY)[0].token_ids) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_follows_use(load):
    """The peak rises with an allocation and falls back after a reset."""
    engine = load()
    engine.reset_memory()
    calm = engine.memory()
    block = torch.ones(64 * 2**20, dtype=torch.float32)
    high = engine.memory().peak_bytes
    del block
    engine.reset_memory()
    assert high - calm.peak_bytes > 200 * 2**20
    assert high - engine.memory().peak_bytes > 200 * 2**20
    assert "process" in calm.covers
    assert calm.reason is None


def test_close_frees_the_model(load):
    """After close nothing holds the weights."""
    import weakref

    engine = load()
    weights = weakref.ref(engine.model)
    engine.close()
    assert weights() is None


@pytest.mark.process
def test_light_modules_import_no_engine():
    """hooks, config, checks and backend load neither torch nor transformers, nor does a whole check."""
    code = (
        "import sys, llem_pytorch.hooks as hooks, llem_pytorch.config as config\n"
        "from llem.config.models import Experiment\n"
        "from llem.models.spec import ModelSpec\n"
        "reference, = hooks.llem_backends()\n"
        "options = reference.load_config()(load_in_4bit=True, adapter='x')\n"
        "backend = reference.load()(options)\n"
        "backend.check(Experiment(backend='pytorch', options=options), ModelSpec('x', 'hub', 'real', 'x'))\n"
        "assert hooks.llem_environment()['pytorch']['torch']\n"
        "heavy = {'torch', 'transformers', 'accelerate', 'peft', 'bitsandbytes', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", SHAPES)
def test_architecture_of_every_shape(name):
    """Counting a real model's parameters gives what the shape's formula gives; no weights are made."""
    config = SHAPES[name].kwargs()
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=torch.bfloat16)
    found = architecture_of(model)
    assert found.parameters == parameter_count(config)
    assert found.weight_bytes == 2 * found.parameters
