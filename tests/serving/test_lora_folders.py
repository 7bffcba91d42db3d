"""mopref/serving/lora_folders.py: LoRAs at single preferences, written when they are asked for, and so many kept."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.serving.lora_folders import adopted, kept, lora_folder, objectives_in

CONFIG = SVDLoRAConfig(("helpful", "harmless"), rank=3, preference_rank=2, scaling=1.5)


@pytest.fixture
def model(make_llama, randomise):
    return randomise(PreferenceModel(make_llama(), CONFIG))


@pytest.fixture
def adapter(model, tmp_path):
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


@pytest.mark.parametrize("weights", [(100, 0), (70, 30), (0, 100)])
def test_a_lora_is_the_one_that_the_model_exports(model, adapter, tmp_path, weights):
    place = adopted(adapter, tmp_path / "cache")
    assert objectives_in(place) == CONFIG.objectives
    folder = lora_folder(place, weights, 100)
    with kept(folder, most=3):
        written = tensors(folder)
    model.export_lora(tmp_path / "exported", [weight / 100 for weight in weights])
    expected = tensors(tmp_path / "exported")
    assert written.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(written[name], value, rtol=1e-6, atol=1e-7)
    ours, theirs = (json.loads((path / "adapter_config.json").read_text()) for path in (folder, tmp_path / "exported"))
    assert {key: ours[key] for key in ("peft_type", "r", "lora_alpha", "target_modules")} == {
        key: theirs[key] for key in ("peft_type", "r", "lora_alpha", "target_modules")
    }


def test_stock_peft_loads_it_with_the_logits_of_the_model(model, adapter, tmp_path, make_llama, token_batch):
    peft = pytest.importorskip("peft")
    folder = lora_folder(adopted(adapter, tmp_path / "cache"), (25, 75), 100)
    with kept(folder, most=1):
        loaded = peft.PeftModel.from_pretrained(make_llama(), str(folder)).eval()
    with torch.no_grad():
        expected = model.eval()(token_batch, preferences=[0.25, 0.75]).logits
        torch.testing.assert_close(loaded(token_batch).logits, expected, rtol=1e-4, atol=1e-4)


def test_the_last_that_were_asked_for_stay(adapter, tmp_path):
    place = adopted(adapter, tmp_path / "cache")

    def ask(first: int) -> None:
        with kept(lora_folder(place, (first, 100 - first), 100), most=3):
            assert len(names()) <= 3

    def names() -> set[str]:
        return {path.name for path in (place / "loras").iterdir()}

    for first in (10, 20, 30):
        ask(first)
    ask(10)
    ask(40)
    assert names() == {"100-10-90", "100-30-70", "100-40-60"}
    # One that was dropped comes back.
    ask(20)
    assert names() == {"100-10-90", "100-40-60", "100-20-80"}


def test_a_dropped_lora_is_written_again_with_the_same_bytes(adapter, tmp_path):
    place = adopted(adapter, tmp_path / "cache")
    first, second = (lora_folder(place, weights, 10) for weights in ((3, 7), (4, 6)))
    with kept(first, most=1):
        before = (first / "adapter_model.safetensors").read_bytes()
    with kept(second, most=1):
        assert not first.exists()
    with kept(first, most=1):
        assert (first / "adapter_model.safetensors").read_bytes() == before


def test_an_adapter_that_is_replaced_is_another_one(model, adapter, tmp_path):
    cache = tmp_path / "cache"
    place = adopted(adapter, cache)
    assert adopted(adapter, cache) == place
    with torch.no_grad():
        next(iter(model.adapters.values())).U.mul_(2)
    model.save_pretrained(adapter)
    other = adopted(adapter, cache)
    assert other != place
    written = []
    for each in (place, other):
        folder = lora_folder(each, (1, 1), 2)
        with kept(folder, most=1):
            written.append(tensors(folder))
    assert any(not torch.equal(written[0][name], written[1][name]) for name in written[0])


def test_a_damaged_adapter_is_refused_and_leaves_no_lora(adapter, tmp_path):
    content = bytearray((adapter / "adapter_model.safetensors").read_bytes())
    content[-3] ^= 0x40
    (adapter / "adapter_model.safetensors").write_bytes(content)
    place = adopted(adapter, tmp_path / "cache")
    folder = lora_folder(place, (1, 1), 2)
    with pytest.raises(ValueError, match="damaged"), kept(folder, most=2):
        pass
    assert not folder.exists()
    assert list((place / "loras").iterdir()) == []


def test_what_is_no_adapter_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no adapter folder: it has no adapter_config"):
        adopted(tmp_path, tmp_path / "cache")
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="names no objectives"):
        objectives_in(adopted(tmp_path, tmp_path / "cache"))


def test_a_cache_that_others_can_write_into_is_refused(adapter, tmp_path):
    cache = tmp_path / "open"
    cache.mkdir()
    cache.chmod(0o777)
    with pytest.raises(ValueError, match="MOPREF_CACHE"):
        adopted(adapter, cache)


def test_threads_and_processes_take_turns(adapter, tmp_path):
    """While one has a LoRA, no other drops it, though only one is kept."""
    place = adopted(adapter, tmp_path / "cache")
    missing = []

    def work(number: int) -> None:
        for turn in range(12):
            first = (7 * number + turn) % 10
            folder = lora_folder(place, (first, 10 - first), 10)
            with kept(folder, most=1):
                if not (folder / "adapter_model.safetensors").is_file():
                    missing.append(folder)

    script = (
        "import sys; from pathlib import Path; from mopref.serving.lora_folders import kept, lora_folder\n"
        "for turn in range(12):\n"
        "    folder = lora_folder(Path(sys.argv[1]), (turn % 10, 10 - turn % 10), 10)\n"
        "    with kept(folder, 1):\n"
        "        assert (folder / 'adapter_model.safetensors').is_file()\n"
    )
    other = subprocess.Popen([sys.executable, "-c", script, str(place)], env=os.environ)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert other.wait(120) == 0
    assert not missing
    assert len(list((place / "loras").iterdir())) == 1
