"""TRL's CPO and ORPO trainers, offline on a tiny model, asked for their losses on pairs that are tokenised already."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mopref import PreferenceModel, SVDLoRAConfig

NAMES = ("helpful", "harmless")
LABELS = [[0, 1], [1, 1], [-1, 0], [0, -1], [1, 0], [0, 1]]
PREFERENCE = (0.3, 0.7)


def make_trl_trainer(kind: str, policy: nn.Module, folder: Path, **options: Any) -> Any:
    """TRL's trainer "cpo" or "orpo" of a policy, in evaluation mode."""
    pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    module = pytest.importorskip(f"trl.experimental.{kind}")

    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2} | {f"t{i}": i for i in range(3, 100)}
    core = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<pad>"))
    core.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    config = getattr(module, f"{kind.upper()}Config")(
        output_dir=str(folder),
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        max_length=64,
        **options,
    )
    placeholder = datasets.Dataset.from_dict({"prompt": ["t5 t6"], "chosen": ["t7"], "rejected": ["t8"]})
    trainer = getattr(module, f"{kind.upper()}Trainer")(
        model=policy, args=config, train_dataset=placeholder, processing_class=tokenizer
    )
    trainer.model.eval()
    return trainer


def labelled_pairs(rows: list[dict], objective: int) -> list[dict[str, list[int]]]:
    """TRL's features of the rows labelled on an objective: its collator pads them."""
    features = []
    for row in rows:
        label, prompt = row["labels"][objective], row["prompt_ids"]
        if label >= 0:
            feature = {}
            for name, k in (("chosen", label), ("rejected", 1 - label)):
                response = row[f"response_{k}_ids"]
                feature[f"{name}_input_ids"] = prompt + response
                feature[f"{name}_attention_mask"] = [1] * len(prompt + response)
                feature[f"{name}_labels"] = [-100] * len(prompt) + response
            features.append(feature)
    return features


@torch.no_grad()
def trl_loss(trainer: Any, rows: list[dict], objective: int) -> float:
    """The mean loss over the rows labelled on an objective."""
    batch = trainer.data_collator(labelled_pairs(rows, objective))
    return trainer.compute_loss(trainer.model, batch).item()


@torch.no_grad()
def trl_metrics(trainer: Any, rows: list[dict], objective: int) -> tuple[float, dict[str, float]]:
    """The mean loss and what it is made of."""
    batch = trainer.data_collator(labelled_pairs(rows, objective))
    loss, metrics = trainer.get_batch_loss_metrics(trainer.model, batch, train_eval="train")
    return loss.item(), metrics


def our_losses(objective: Any, model: nn.Module, rows: list[dict]) -> Tensor:
    """Of all rows under PREFERENCE: ``(m,)``."""
    with torch.no_grad():
        return objective.losses(model, objective.collate(rows), torch.tensor([PREFERENCE]))[0]


def policy_pair(make_llama: Callable, randomise: Callable, merge_by_hand: Callable) -> tuple[nn.Module, nn.Module]:
    """Our model, and for TRL the policy at PREFERENCE with its weights written out."""
    config = SVDLoRAConfig(objectives=NAMES, rank=3, preference_rank=2)
    model = randomise(PreferenceModel(make_llama(), config), std=0.15).eval()
    return model, merge_by_hand(make_llama(), model, torch.tensor(PREFERENCE))
