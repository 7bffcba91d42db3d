"""mopref/serving/vllm.py: what the plugin answers a stand-in for the engine; `make serve-vllm-test` runs a real one."""

import asyncio
import json
import logging
import subprocess
import sys
from importlib.metadata import entry_points
from types import ModuleType, SimpleNamespace

import pytest

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.serving import vllm as plugin
from mopref.serving.lora_folders import kept


@pytest.fixture
def adapter(make_llama, randomise, tmp_path):
    model = randomise(PreferenceModel(make_llama(), SVDLoRAConfig(("helpful", "harmless"), rank=2)))
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.fixture
def environment(adapter, tmp_path):
    return {"MOPREF_ADAPTERS": f"hh={adapter}", "MOPREF_CACHE": str(tmp_path / "cache"), "MOPREF_LORAS": "2"}


@pytest.fixture
def engine(monkeypatch):
    """The four names of vLLM's that the plugin uses."""
    registered, loaded = {}, []

    class WorkerLoRAManager:
        def _load_adapter(self, lora_request):
            if not lora_request.lora_path.startswith("elsewhere"):
                with open(f"{lora_request.lora_path}/adapter_model.safetensors", "rb"):
                    pass
            loaded.append(lora_request.lora_path)
            return "loaded"

    modules = {
        "vllm": {},
        "vllm.lora": {},
        "vllm.lora.request": {"LoRARequest": lambda **fields: SimpleNamespace(**fields)},
        "vllm.lora.resolver": {
            "LoRAResolver": object,
            "LoRAResolverRegistry": SimpleNamespace(register_resolver=registered.__setitem__),
        },
        "vllm.lora.worker_manager": {"WorkerLoRAManager": WorkerLoRAManager},
    }
    for name, content in modules.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return SimpleNamespace(registered=registered, loaded=loaded, manager=WorkerLoRAManager)


@pytest.fixture
def resolve(engine, environment, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    plugin.register()
    resolver = engine.registered["mopref"]
    return lambda name: asyncio.run(resolver.resolve_lora("base", name))


def test_a_name_with_a_preference_gets_its_lora(resolve):
    request = resolve("hh@helpful=0.7,harmless=0.3")
    assert request.lora_name == "hh@helpful=0.7,harmless=0.3"
    assert json.loads(open(f"{request.lora_path}/adapter_config.json").read())["peft_type"] == "LORA"
    # Other words for the same point of the grid share it.
    assert resolve("hh@0.701").lora_path == request.lora_path


def test_names_without_a_preference_are_left_to_others_in_silence(resolve, caplog):
    assert resolve("another-model") is None
    assert not caplog.records


@pytest.mark.parametrize("name", ["hh@", "hh@2,3", "other@0.5", "hh@helpful=0.5", "hh@../../etc", "hh@" + "x" * 5000])
def test_a_wrong_name_gets_nothing_and_the_log_says_why(resolve, caplog, name):
    with caplog.at_level(logging.WARNING, logger="vllm.mopref"):
        assert resolve(name) is None
    assert "mopref: " in caplog.records[-1].getMessage()
    assert len(caplog.records[-1].getMessage()) < 600


def test_a_lora_that_cannot_be_written_gets_nothing(resolve, caplog, monkeypatch):
    def no_room(folder, most):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plugin, "kept", no_room)
    with caplog.at_level(logging.WARNING, logger="vllm.mopref"):
        assert resolve("hh@0.5") is None
    assert "could not be written" in caplog.text


def test_workers_find_a_lora_that_was_dropped_since(resolve, engine):
    first = resolve("hh@0.1")
    for weight in (0.2, 0.3, 0.4):
        resolve(f"hh@{weight}")
    from pathlib import Path

    assert not Path(first.lora_path).exists()
    assert engine.manager()._load_adapter(first) == "loaded"
    assert engine.loaded == [first.lora_path]
    # Others' are loaded as ever.
    assert engine.manager()._load_adapter(SimpleNamespace(lora_path="elsewhere/a/b")) == "loaded"


def test_a_worker_wraps_once(resolve, engine):
    before = engine.manager._load_adapter
    plugin.register()
    assert engine.manager._load_adapter is before


def test_five_hundred_preferences_of_three_objectives_keep_within_the_bound(make_llama, randomise, tmp_path):
    model = randomise(PreferenceModel(make_llama(), SVDLoRAConfig(("a", "b", "c"), rank=1, preference_rank=1)))
    model.save_pretrained(tmp_path / "three")
    own = {"MOPREF_ADAPTERS": f"x={tmp_path / 'three'}", "MOPREF_CACHE": str(tmp_path / "cache"), "MOPREF_LORAS": "50"}
    settings = plugin.settings_from(own)
    asked = set()
    for number in range(500):
        first, second = number % 30, number // 30
        folder = settings.folder(f"x@{first / 100},{second / 100},{(100 - first - second) / 100}")
        asked.add(folder)
        with kept(folder, settings.most):
            pass
    assert len(asked) == 500
    assert len(list(folder.parent.iterdir())) == 50


def test_without_adapters_nothing_happens(engine, monkeypatch):
    monkeypatch.delenv("MOPREF_ADAPTERS", raising=False)
    plugin.register()
    assert not engine.registered


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"MOPREF_ADAPTERS": "hh"}, "give NAME=FOLDER"),
        ({"MOPREF_ADAPTERS": "h@h={adapter}"}, "without @"),
        ({"MOPREF_ADAPTERS": "hh={adapter},hh={adapter}"}, "each name once"),
        ({"MOPREF_LORAS": "0"}, "at least one"),
        ({"MOPREF_LORAS": "many"}, "give a number"),
        ({"MOPREF_GRID": "0.3"}, "whole number makes 1"),
        ({"MOPREF_PRESETS": "{presets}"}, "no preference of any adapter"),
    ],
)
def test_settings_that_cannot_be_stop_the_start(environment, adapter, tmp_path, change, reason):
    presets = tmp_path / "presets.json"
    presets.write_text('{"bad": [0.5, 0.6]}')
    own = {name: value.format(adapter=adapter, presets=presets) for name, value in change.items()}
    with pytest.raises(ValueError, match=reason):
        plugin.settings_from({**environment, **own})


def test_the_entry_point_is_there_and_loads_nothing_heavy():
    (point,) = (point for point in entry_points(group="vllm.general_plugins") if point.name == "mopref")
    assert point.value == "mopref.serving.vllm:register"
    script = (
        "import sys, os; os.environ.pop('MOPREF_ADAPTERS', None); import mopref.serving.vllm as plugin; "
        "plugin.register(); print(sorted({'torch', 'transformers', 'numpy', 'vllm'} & sys.modules.keys()))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
