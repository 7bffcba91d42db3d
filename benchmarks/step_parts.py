"""What the benchmarks of a training step share: one model, the same pairs, and both libraries' trainers on them.

Variants are named as in :data:`PEERS`, "mopref-1" being mopref with one objective. All have adapters of the same total
rank on the same linear layers, with the same random weights, so that with one objective mopref and TRL hold the same
policy when they start.
"""

import math
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerCallback, TrainerConfig
from mopref.conditioning.svd_lora import SVDLoRALayer
from mopref.objectives import DPO
from mopref.scalarizers import Tchebycheff

# Called with None when a training begins, and with the loss at the end of each step.
Turn = Callable[[float | None], None]

_PREFERENCES_PER_STEP, _LEARNING_RATE, _BETA = 4, 1e-4, 0.1
_END_OF_RESPONSE = 2

# What TRL is tried with: "trl" is the fastest of its settings on a CPU. Its head is evaluated at every token there, and
# at response tokens only where there is Triton: "trl-compact" takes this switch on a CPU too, which no setting does.
PEERS: dict[str, dict[str, Any]] = {
    "trl": {},
    "trl-compact": {},
    "trl-plain-adamw": {"optim": "adamw_torch"},
    "trl-checkpointing": {"gradient_checkpointing": True},
}


@dataclass(frozen=True)
class Setting:
    """One model, one batch of pairs, and how they are trained.

    Attributes:
        prompt, response: the least and the most tokens of each.
        rank: of every adapter in total: k + p·m in mopref, r in LoRA.
        cached: whether the reference's log-probabilities are computed before.
        steps: optimiser steps, the one that warms up included.
        quantization: of the base: None, "4bit" (NF4) or "8bit", by bitsandbytes.
        seed: of pairs and weights.
    """

    vocabulary: int = 8000
    layers: int = 6
    hidden: int = 384
    intermediate: int = 1024
    heads: int = 6
    key_value_heads: int = 6
    pairs: int = 16
    prompt: tuple[int, int] = (24, 72)
    response: tuple[int, int] = (16, 112)
    rank: int = 24
    cached: bool = True
    attention: str = "sdpa"
    steps: int = 8
    device: str = "cpu"
    dtype: str = "float32"
    quantization: str | None = None
    seed: int = 0


def make_rows(setting: Setting, num_objectives: int) -> list[dict[str, Any]]:
    """The batch's pairs, of random tokens; the same ones whatever the number of objectives."""
    generator = torch.Generator().manual_seed(setting.seed)

    def ids(span: tuple[int, int]) -> list[int]:
        length = int(torch.randint(span[0], span[1] + 1, (1,), generator=generator))
        return torch.randint(_END_OF_RESPONSE + 1, setting.vocabulary, (length,), generator=generator).tolist()

    rows = []
    for index in range(setting.pairs):
        prompt, first, second = ids(setting.prompt), ids(setting.response), ids(setting.response)
        # TRL ends every response that does not end so itself.
        first[-1] = second[-1] = _END_OF_RESPONSE
        labels = [(index + objective) % 2 for objective in range(num_objectives)]
        rows.append({"prompt_ids": prompt, "response_0_ids": first, "response_1_ids": second, "labels": labels})
    return rows


def make_base(setting: Setting) -> nn.Module:
    """A random Llama, of the same numbers however they are stored."""
    from transformers import BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=setting.vocabulary,
        hidden_size=setting.hidden,
        intermediate_size=setting.intermediate,
        num_hidden_layers=setting.layers,
        num_attention_heads=setting.heads,
        num_key_value_heads=setting.key_value_heads,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=_END_OF_RESPONSE,
        attn_implementation=setting.attention,
    )
    torch.manual_seed(setting.seed)
    with torch.device(setting.device):
        model = LlamaForCausalLM(config).to(getattr(torch, setting.dtype))
    if setting.quantization is None:
        return model
    own: dict[str, Any] = {f"load_in_{setting.quantization}": True, "bnb_4bit_quant_type": "nf4"}
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        options = {"dtype": model.dtype, "device_map": {"": setting.device}, "attn_implementation": setting.attention}
        return LlamaForCausalLM.from_pretrained(folder, quantization_config=BitsAndBytesConfig(**own), **options)


def adapter_weights(name: str, n_out: int, n_in: int, rank: int) -> tuple[Tensor, Tensor]:
    """U ``(n_out, rank)`` and V ``(n_in, rank)`` of the layer of that name: the same numbers in every process."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    out_directions = 0.05 * torch.randn(n_out, rank, generator=generator)
    return out_directions, torch.randn(n_in, rank, generator=generator) / math.sqrt(n_in)


class _StepEnds(TrainerCallback):
    """Tells ``turn`` of mopref's steps."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def on_train_begin(self, trainer: ParetoTrainer) -> None:
        """Say that it begins."""
        self._turn(None)

    def on_step_end(self, trainer: ParetoTrainer) -> None:
        """Hand on the mean loss of the first objective."""
        self._turn(trainer.history[-1][f"loss/{trainer.objective.names[0]}"])


def mopref_trainer(
    setting: Setting,
    num_objectives: int,
    turn: Turn,
    trainer_options: dict[str, Any] | None = None,
    objective_options: dict[str, Any] | None = None,
) -> ParetoTrainer:
    """mopref's trainer of m objectives: p = 1 and k = rank − m.

    Raises:
        ValueError: a rank that has no room for a direction of each objective.
    """
    if num_objectives > setting.rank:
        raise ValueError(f"rank is {setting.rank}: {num_objectives} objectives need a direction each, so raise it.")
    names = tuple(f"objective_{index}" for index in range(num_objectives))
    adapters = SVDLoRAConfig(names, rank=setting.rank - num_objectives, preference_rank=1)
    model = PreferenceModel(make_base(setting), adapters)
    objective = DPO(names, **{"beta": _BETA, **(objective_options or {})})
    options = trainer_options or {}
    rows = make_rows(setting, num_objectives)
    if setting.cached:
        rows = objective.precompute(model, rows, mixed_precision=options.get("mixed_precision"))
    settings: dict[str, Any] = {
        "steps": setting.steps,
        "batch_size": setting.pairs,
        "preferences_per_step": math.gcd(setting.pairs, _PREFERENCES_PER_STEP),
        "learning_rate": _LEARNING_RATE,
        "lr_schedule": "constant",
        "warmup_ratio": 0.0,
        "optimizer": "adamw-fused",
        "log_every": 1,
        "cpu": setting.device == "cpu",
        "progress": False,
    }
    trainer = ParetoTrainer(
        model,
        objective,
        Tchebycheff([0.0] * num_objectives),
        train_data=rows,
        config=TrainerConfig(**{**settings, **options}),
        callbacks=[_StepEnds(turn)],
    )
    with torch.no_grad():
        for name, layer in cast(dict[str, SVDLoRALayer], model.adapters).items():
            out_directions, in_directions = adapter_weights(name, len(layer.U), len(layer.V), setting.rank)
            layer.U.copy_(out_directions)
            layer.V.copy_(in_directions)
    return trainer


def trl_trainer(setting: Setting, turn: Turn, peer: str = "trl") -> Any:
    """TRL's ``DPOTrainer`` with PEFT's LoRA, on the labels of the first objective."""
    import transformers
    import trl
    from datasets import concatenate_datasets
    from peft import LoraConfig

    transformers.logging.set_verbosity_error()
    if peer == "trl-compact":
        trl.trainer.utils._use_triton = lambda device: True

    class StepEnds(transformers.TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            turn(None)

        def on_step_end(self, *_: Any, **__: Any) -> None:
            turn(trainer.last_loss.item())

    class Trainer(trl.DPOTrainer):
        def compute_loss(self, *arguments: Any, **options: Any) -> Any:
            loss = super().compute_loss(*arguments, **options)
            self.last_loss = loss.detach()
            return loss

    options: dict[str, Any] = {
        "output_dir": tempfile.mkdtemp(prefix="trl_"),
        "max_steps": setting.steps,
        "per_device_train_batch_size": setting.pairs,
        "train_sampling_strategy": "sequential",
        "learning_rate": _LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "optim": "adamw_torch_fused",
        "beta": _BETA,
        "max_length": None,
        "precompute_ref_log_probs": setting.cached,
        "gradient_checkpointing": False,
        "bf16": setting.dtype == "bfloat16",
        "use_cpu": setting.device == "cpu",
        "dataloader_pin_memory": setting.device != "cpu",
        "report_to": "none",
        "disable_tqdm": True,
        "logging_strategy": "no",
        "save_strategy": "no",
    }
    trainer = Trainer(
        model=make_base(setting),
        args=trl.DPOConfig(**{**options, **PEERS[peer]}),
        train_dataset=_trl_rows(setting),
        processing_class=_tokenizer(setting.vocabulary),
        peft_config=LoraConfig(
            r=setting.rank, lora_alpha=setting.rank, lora_dropout=0.0, target_modules="all-linear", bias="none"
        ),
        callbacks=[StepEnds()],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    # So that no epoch ends within the training.
    trainer.train_dataset = concatenate_datasets([trainer.train_dataset] * setting.steps)
    with torch.no_grad():
        for name, layer in trainer.model.named_modules():
            if hasattr(layer, "lora_A"):
                first, second = layer.lora_A["default"].weight, layer.lora_B["default"].weight
                plain_name = name.removeprefix("base_model.model.")
                out_directions, in_directions = adapter_weights(plain_name, len(second), first.shape[1], setting.rank)
                first.copy_(in_directions.T)
                second.copy_(out_directions)
    return trainer


def _trl_rows(setting: Setting) -> Any:
    """The same pairs as texts."""
    from datasets import Dataset

    def text(ids: list[int]) -> str:
        return "".join(f" t{token}" for token in ids if token != _END_OF_RESPONSE)

    columns: dict[str, list[str]] = {"prompt": [], "chosen": [], "rejected": []}
    for row in make_rows(setting, 1):
        (label,) = row["labels"]
        columns["prompt"].append(text(row["prompt_ids"]))
        for column, response in (("chosen", label), ("rejected", 1 - label)):
            columns[column].append(text(row[f"response_{response}_ids"]) + " </s>")
    return Dataset.from_dict(columns)


def _tokenizer(vocabulary: int) -> Any:
    """A word for each token id."""
    import tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "<s>": 1, "</s>": _END_OF_RESPONSE} | {f"t{index}": index for index in range(3, vocabulary)}
    core = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<pad>"))
    core.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def make_trainer(variant: str, setting: Setting, turn: Turn) -> Any:
    """The trainer of that name: one of :data:`PEERS`, or "mopref-m"."""
    if variant in PEERS:
        return trl_trainer(setting, turn, variant)
    return mopref_trainer(setting, objectives_of(variant), turn)


def objectives_of(variant: str) -> int:
    """M of "mopref-m".

    Raises:
        ValueError: another name.
    """
    library, _, count = variant.partition("-")
    if library != "mopref" or not count.isdigit() or int(count) < 1:
        raise ValueError(f"unknown variant {variant!r}: choose one of {', '.join(PEERS)}, or mopref-1, mopref-2, ….")
    return int(count)
