"""The command for a stock vLLM: what it says is what the plugin and vLLM read."""

import json
import shlex

import pytest

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.serving.vllm import settings_from
from mopref.serving.vllm_command import vllm_command

NAMES = ("helpful", "harmless")


@pytest.fixture
def adapter(tmp_path, make_llama):
    base = make_llama()
    base.save_pretrained(tmp_path / "base")
    model = PreferenceModel.from_pretrained(tmp_path / "base", SVDLoRAConfig(NAMES, rank=9, preference_rank=4))
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def flag(command, name: str) -> str:
    return command.arguments[command.arguments.index(name) + 1]


def test_the_plugin_serves_the_adapter_by_its_environment(adapter, tmp_path):
    presets = tmp_path / "presets.json"
    presets.write_text(json.dumps({"safe": {"helpful": 0.25, "harmless": 0.75}}))
    command = vllm_command(adapter, presets=presets)
    settings = settings_from({**command.environment, "MOPREF_CACHE": str(tmp_path / "cache")})
    assert settings.objectives == {"adapter": NAMES}
    assert settings.folder("adapter@safe").name == "100-25-75"
    assert command.environment["VLLM_PLUGINS"] == "mopref"
    assert command.environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"


def test_base_rank_and_address(adapter, tmp_path):
    command = vllm_command(adapter, max_loras=3)
    assert flag(command, "--model") == str(tmp_path / "base")
    assert "--revision" not in command.arguments, "a folder has none"
    # 9 + 2 · 4 is 17, and vLLM takes 16 or 32.
    assert flag(command, "--max-lora-rank") == "32"
    assert (flag(command, "--max-loras"), flag(command, "--max-cpu-loras")) == ("3", "6")
    assert (flag(command, "--host"), flag(command, "--port")) == ("127.0.0.1", "8000")
    assert not {"--max-num-seqs", "--max-model-len", "--override-generation-config"} & {*command.arguments}


def test_what_an_operator_sets_is_passed_on(adapter):
    command = vllm_command(adapter, name="hh", port=81, max_batch=5, max_context=99, max_tokens=7)
    assert command.environment["MOPREF_ADAPTERS"].startswith("hh=/")
    assert [flag(command, name) for name in ("--port", "--max-num-seqs", "--max-model-len")] == ["81", "5", "99"]
    assert json.loads(flag(command, "--override-generation-config")) == {"max_new_tokens": 7}


def test_the_text_is_the_command_as_a_shell_takes_it(adapter):
    command = vllm_command(adapter, name="a b", max_tokens=7)
    words = shlex.split(command.text("vllm env/bin/python", {"VLLM_API_KEY": '"$(cat token)"'}))
    variables = dict(word.split("=", 1) for word in words[: len(command.environment) + 1])
    assert variables == {**command.environment, "VLLM_API_KEY": "$(cat token)"}
    assert words[len(variables) :] == ["vllm env/bin/python", *command.arguments]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "a@b"}, "without @, = and commas"),
        ({"port": 0}, "port is 0"),
        ({"max_loras": 0}, "max_loras is 0"),
        ({"max_batch": -1}, "max_batch is -1"),
    ],
)
def test_what_cannot_be_served_is_refused(adapter, options, words):
    with pytest.raises(ValueError, match=words):
        vllm_command(adapter, **options)


def test_presets_of_other_objectives_and_ranks_that_vllm_has_not_are_refused(adapter, tmp_path, make_llama):
    presets = tmp_path / "presets.json"
    presets.write_text(json.dumps({"safe": {"helpful": 0.25, "polite": 0.75}}))
    with pytest.raises(ValueError, match="the preset 'safe', which is refused"):
        vllm_command(adapter, presets=presets)
    description = json.loads((adapter / "adapter_config.json").read_text())
    (tmp_path / "none").mkdir()
    with pytest.raises(FileNotFoundError):
        vllm_command(tmp_path / "none")
    assert description["objectives"] == list(NAMES)


def test_a_folder_that_the_plugin_could_not_read_from_a_list_is_refused(adapter):
    other = adapter.with_name("a,b")
    adapter.rename(other)
    with pytest.raises(ValueError, match="has a comma"):
        vllm_command(other, name="x")
