"""What the serving cache makes of an adapter, beside the export."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from mopref import PreferenceModel


def check_served_lora(model: PreferenceModel, folder: Path) -> None:
    """At (.3, .7) the LoRA of the serving cache is the one that is exported."""
    from mopref.serving.lora_folders import adopted, kept, lora_folder

    model.save_pretrained(folder / "adapter")
    served = lora_folder(adopted(folder / "adapter", folder / "cache"), (30, 70), 100)
    model.export_lora(folder / "lora", [0.3, 0.7])
    expected = load_file(folder / "lora" / "adapter_model.safetensors")
    with kept(served, 2):
        found = load_file(served / "adapter_model.safetensors")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name].float(), tensor, atol=1e-5, rtol=1e-5)
