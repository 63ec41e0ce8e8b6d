"""From a model and a section to the library's arguments: shapes, checkpoints, adapters, and what goes wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import ClassVar

import attrs
import pytest

from llem.config.models import Sampling
from llem.errors import ConfigError, ExperimentFailed, MachineError
from llem.models.shapes import SHAPES
from llem.models.spec import ModelSpec
from llem.plugins.registry import Registry
from llem_tensorrt import hooks
from llem_tensorrt.folder import checkpoint_config
from llem_tensorrt.sections import CudaGraph, Lora, PeftCache, Speculative


def files_of(control):
    folder = Path(control.llm["model"])
    return {path.name: json.loads(path.read_text()) for path in folder.iterdir()}


def test_shape_is_loaded_with_dummy_weights(load, control):
    """A shape becomes a folder with its configuration; weights are the library's own, without a tokenizer."""
    engine = load()
    files = files_of(control)
    assert set(files) == {"config.json"}
    assert files["config.json"]["hidden_size"] == 64
    assert files["config.json"]["architectures"] == ["LlamaForCausalLM"]
    assert (control.llm["load_format"], control.llm["skip_tokenizer_init"]) == ("dummy", True)
    effective = engine.effective_config()
    assert (effective["weights"], effective["dtype"], effective["args"]["model"]) == ("dummy", "bfloat16", "shape:tiny")
    assert effective["tensorrt_llm"] == "1.2.1"
    assert "not yet run on the real library" in effective["engine_status"]


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_are_written_as_published_checkpoints_are(name):
    """The rotary base and the dtype stand where every version of transformers looks for them, and nothing is lost."""
    config, written = SHAPES[name].kwargs(), checkpoint_config(SHAPES[name].kwargs())
    rope = config.pop("rope_parameters")
    assert written["rope_theta"] == rope["rope_theta"]
    assert written["torch_dtype"] == config.pop("dtype")
    scaled = {key: value for key, value in rope.items() if key != "rope_theta"}
    assert written["rope_scaling"] == (None if rope["rope_type"] == "default" else scaled)
    assert {key: written[key] for key in config} == config


def test_quantised_shape(load, control):
    """A quantised shape says so in the file that quantised checkpoints have."""
    load({"quant_algo": "NVFP4"})
    assert files_of(control)["hf_quant_config.json"]["quantization"]["quant_algo"] == "NVFP4"


def test_checkpoint_is_passed_on(load, control, tmp_path):
    """Folders go by their path, ids with their revision; the weights are the checkpoint's."""
    engine = load(spec=ModelSpec("./m", "folder", "real", "m", path=str(tmp_path), config={"model_type": "llama"}))
    assert control.llm["model"] == str(tmp_path)
    assert "load_format" not in control.llm
    assert engine.effective_config()["weights"] == "checkpoint"
    load(spec=ModelSpec("org/name", "hub", "real", "h", revision="v2"), trust_remote_code=True, dtype="auto")
    assert (control.llm["model"], control.llm["revision"]) == ("org/name", "v2")
    assert (control.llm["trust_remote_code"], control.llm["dtype"]) == (True, "auto")


def test_nothing_is_passed_that_was_not_asked_for(load, control):
    """None is the library's own default: not a word of it is sent."""
    load()
    assert set(control.llm) == {
        "model",
        "dtype",
        "load_format",
        "skip_tokenizer_init",
        "trust_remote_code",
        "revision",
        "tensor_parallel_size",
    }
    assert control.llm["tensor_parallel_size"] == 1


def test_cuda_graphs_can_be_switched_off(load, control):
    """The library takes None for none; batch sizes go through as a list."""
    engine = load({"cuda_graph_config": CudaGraph(enabled=False)})
    assert control.llm["cuda_graph_config"] is None
    assert engine.effective_config()["args"]["cuda_graph_config"] is None
    load({"cuda_graph_config": CudaGraph(batch_sizes=(1, 8), enabled=True)})
    assert control.llm["cuda_graph_config"].batch_sizes == [1, 8]


@pytest.mark.parametrize(
    ("section", "cls", "settings"),
    [
        (
            Speculative(kind="draft_target", max_draft_len=3, speculative_model_dir="org/d"),
            "DraftTargetDecodingConfig",
            {},
        ),
        (
            Speculative(kind="eagle", max_draft_len=3, speculative_model_dir="org/e", eagle3_one_model=False),
            "EagleDecodingConfig",
            {"eagle3_one_model": False},
        ),
        (Speculative(kind="eagle3", max_draft_len=3, speculative_model_dir="org/e"), "Eagle3DecodingConfig", {}),
        (Speculative(kind="mtp", num_nextn_predict_layers=2), "MTPDecodingConfig", {"num_nextn_predict_layers": 2}),
        (Speculative(kind="pard", max_draft_len=3, speculative_model_dir="org/p"), "PARDDecodingConfig", {}),
        (Speculative(kind="sa", max_draft_len=3), "SADecodingConfig", {"max_draft_len": 3}),
        (Speculative(kind="auto"), "AutoDecodingConfig", {}),
    ],
)
def test_kinds_of_speculation(load, control, section, cls, settings):
    """Each kind becomes its own class, with its settings."""
    engine = load({"speculative_config": section})
    made = control.llm["speculative_config"]
    assert type(made).__name__ == cls
    assert made.speculative_model_dir == section.speculative_model_dir
    assert {name: getattr(made, name) for name in settings} == settings
    assert engine.effective_config()["args"]["speculative_config"]["kind"] == type(made).decoding_type


def test_new_name_of_the_drafting_model(load, monkeypatch, control):
    """A version that calls the drafting model otherwise gets it under that name."""
    from tensorrt_llm.llmapi import llm_args

    class Renamed(llm_args.StrictBaseModel):
        decoding_type: ClassVar[str] = "Draft_Target"
        max_draft_len: int | None = None
        speculative_model: str | None = None

    monkeypatch.setattr(llm_args, "DraftTargetDecodingConfig", Renamed)
    monkeypatch.setattr(llm_args, "TorchLlmArgs", llm_args.loose("speculative_config"))
    load({"speculative_config": Speculative(kind="draft_target", max_draft_len=3, speculative_model_dir="org/d")})
    assert control.llm["speculative_config"].speculative_model == "org/d"


def test_adapter(load, control, requests_of, tmp_path):
    """An adapter switches LoRA on, and every request asks for it."""
    (tmp_path / "adapter_config.json").write_text("{}")
    lora = Lora(
        lora_dir=str(tmp_path),
        max_lora_rank=16,
        max_loras=1,
        max_cpu_loras=2,
        lora_target_modules=("attn_q",),
        lora_ckpt_source="nemo",
    )
    peft = PeftCache(
        device_cache_percent=0.1,
        host_cache_size=2**20,
        optimal_adapter_size=4,
        max_adapter_size=16,
        num_put_workers=2,
        num_ensure_workers=3,
        num_copy_streams=4,
    )
    engine = load({"lora_config": lora, "peft_cache_config": peft})
    assert control.llm["enable_lora"] is True
    arrived = control.llm["lora_config"]
    assert arrived.lora_dir == [str(tmp_path)]
    assert arrived.lora_target_modules == ["attn_q"]
    assert (arrived.max_lora_rank, arrived.max_loras, arrived.max_cpu_loras) == (16, 1, 2)
    assert arrived.lora_ckpt_source == "nemo"
    for name, value in attrs.asdict(peft).items():
        assert getattr(control.llm["peft_cache_config"], name) == value
    engine.generate(requests_of((3, 2)), Sampling())
    assert control.generated[-1][1]["lora_request"].lora_path == str(tmp_path)
    assert engine.effective_config()["lora"]["lora_path"] == str(tmp_path)
    assert engine.architecture() is None


def test_folder_without_an_adapter(experiment, tiny, tmp_path):
    """A folder that is no adapter is refused before anything is loaded."""
    from llem_tensorrt.backend import TensorRTBackend

    asked = experiment({"lora_config": Lora(lora_dir=str(tmp_path))})
    (found,) = TensorRTBackend(asked.options).check(asked, tiny)
    assert "no adapter_config.json" in found.message


def test_wrong_values_are_told_with_their_paths(load):
    """What pydantic finds wrong is told as llem tells it: path, what is wrong, no traceback."""
    with pytest.raises(ConfigError) as caught:
        load({"extra": {"tokenizer_mode": "fast"}})
    (problem,) = caught.value.problems
    assert problem.path == "tensorrt.tokenizer_mode"
    with pytest.raises(ConfigError) as caught:
        load({"speculative_config": Speculative(kind="ngram", max_draft_len=1, settings={"is_keep_all": "perhaps"})})
    assert caught.value.problems[0].path == "tensorrt.speculative_config.is_keep_all"


@pytest.mark.parametrize(
    ("failure", "error", "words"),
    [
        (
            RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB"),
            ExperimentFailed,
            "out of memory while loading",
        ),
        (RuntimeError("Pre SM 80 GPUs do not support bfloat16"), ConfigError, "cannot run model"),
        (OSError("We couldn't connect to the Hub"), MachineError, "cannot fetch"),
        (OSError("org/name is not a local folder"), ConfigError, "cannot load"),
        (ImportError("libnvinfer.so.10: cannot open shared object file"), MachineError, "libnvinfer"),
        (NotImplementedError("architecture Mamba3 is unknown"), ConfigError, "Mamba3"),
        (RuntimeError("NCCL error"), RuntimeError, "NCCL error"),
    ],
)
def test_failures_of_loading(load, control, failure, error, words):
    """Each becomes the error that says what to do; a defect keeps its own; a shape's files are removed."""
    control.fail_at, control.failure = "load", failure
    with pytest.raises(error, match=words):
        load()
    assert not Path(control.llm["model"]).exists()


def test_flashinfer_is_not_replaced_in_silence(load):
    """The library would fall back to other kernels without a word."""
    with pytest.raises(MachineError, match="flashinfer"):
        load({"attn_backend": "FLASHINFER"})


def test_sampling_in_a_version_that_must_be_told(load, monkeypatch):
    """In 1.0 a temperature would be ignored unless a sampler is switched on."""
    from tensorrt_llm.llmapi import llm_args

    monkeypatch.setattr(llm_args, "TorchLlmArgs", llm_args.without("sampler_type"))
    with pytest.raises(ConfigError, match="enable_trtllm_sampler"):
        load(sampling=Sampling(temperature=1.0))
    load({"enable_trtllm_sampler": True}, sampling=Sampling(temperature=1.0))


def test_stub_is_no_library(load, monkeypatch):
    """The stub that package indexes serve under the name is told apart from the library."""
    import tensorrt_llm

    monkeypatch.delattr(tensorrt_llm, "LLM")
    with pytest.raises(MachineError, match="not the library itself"):
        load()


def test_it_is_labelled_everywhere():
    """The status stands in the reference, and the package's own texts say the same."""
    (reference,) = hooks.llem_backends()
    assert reference.status.startswith("not yet run on the real library")
    root = Path(hooks.__file__).parents[2]
    for text in (root / "README.md", root / "CHANGELOG.md", root.parent / "docs/howto/tensorrt.md"):
        if root.name == "llem-tensorrt":  # run from the repository, not from a wheel
            assert "not yet run on the real library" in text.read_text(encoding="utf-8").lower()


def test_without_the_library(monkeypatch):
    """Where it is not installed, asking for the backend says how to get it."""
    from llem.plugins.claims import Plugin
    from llem.plugins.registry import PluginSet

    monkeypatch.setattr(sys, "path", [path for path in sys.path if not path.endswith("standin")])
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorrt_llm"]:
        monkeypatch.delitem(sys.modules, name)
    found = PluginSet()
    found.add(Plugin("tensorrt", "llem_tensorrt.hooks", "llem-tensorrt", "0"), hooks)
    with pytest.raises(MachineError, match="needs tensorrt_llm") as caught:
        Registry(found).load("backend", "tensorrt")
    assert "NVIDIA's guide" in caught.value.hint
