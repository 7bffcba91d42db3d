"""DPO's losses equal TRL's on the same policy, reference and pairs, objective by objective.

TRL's trainer is built offline on a tiny model and asked for its loss on pairs that are tokenised already: its own
collator pads them and its own ``compute_loss`` runs both forwards, so that no part of the number is ours.
"""

import copy

import pytest
import torch
from torch import nn

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.objectives import DPO

NAMES = ("helpful", "harmless")
LABELS = [[0, 1], [1, 1], [-1, 0], [0, -1], [1, 0], [0, 1]]
PREFERENCE = (0.3, 0.7)
BETA = 0.3


@pytest.fixture(scope="module")
def rows(make_pairs) -> list[dict]:
    return make_pairs(LABELS, shortest_prompt=2)


@pytest.fixture(scope="module")
def models(make_llama, randomise, merge_by_hand) -> tuple[PreferenceModel, nn.Module, nn.Module]:
    """Our model, and for TRL the policy at PREFERENCE with its weights written out, and the reference."""
    base = make_llama()
    config = SVDLoRAConfig(objectives=NAMES, rank=3, preference_rank=2)
    model = randomise(PreferenceModel(copy.deepcopy(base), config), std=0.15).eval()
    return model, merge_by_hand(base, model, torch.tensor(PREFERENCE)), base


@pytest.fixture
def trl_loss(models, tmp_path):
    """A function of rows and an objective's index: TRL's mean loss over the rows labelled on it."""
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")

    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2} | {f"t{i}": i for i in range(3, 100)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    placeholder = datasets.Dataset.from_dict({"prompt": ["t5 t6"], "chosen": [" t7"], "rejected": [" t8"]})

    def loss(rows: list[dict], objective: int, **options) -> float:
        _, policy, reference = models
        trainer = trl.DPOTrainer(
            model=copy.deepcopy(policy),
            ref_model=copy.deepcopy(reference),
            args=trl.DPOConfig(
                output_dir=str(tmp_path),
                beta=BETA,
                report_to="none",
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                **options,
            ),
            train_dataset=placeholder,
            processing_class=tokenizer,
        )
        pairs = [
            {
                "prompt_ids": row["prompt_ids"],
                "chosen_ids": row[f"response_{row['labels'][objective]}_ids"],
                "rejected_ids": row[f"response_{1 - row['labels'][objective]}_ids"],
            }
            for row in rows
            if row["labels"][objective] >= 0
        ]
        trainer.model.eval()
        with torch.no_grad():
            return trainer.compute_loss(trainer.model, trainer.data_collator(pairs)).item()

    return loss


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {"loss_type": "sigmoid"}),
        ({"loss": "hinge"}, {"loss_type": "hinge"}),
        # TRL averages log-probabilities over tokens for IPO.
        ({"loss": "ipo", "length_normalized": True}, {"loss_type": "ipo"}),
        ({"loss": "robust", "label_smoothing": 0.2}, {"loss_type": "robust", "label_smoothing": 0.2}),
        ({"length_normalized": True}, {"loss_type": "sigmoid_norm"}),
    ],
    ids=lambda options: options.get("loss_type", ""),
)
def test_losses_equal_trl(ours, theirs, models, rows, trl_loss):
    model, _, _ = models
    dpo = DPO(NAMES, beta=BETA, **ours)
    with torch.no_grad():
        losses = dpo.losses(model, dpo.collate(rows), torch.tensor([PREFERENCE]))
    for objective in range(2):
        assert losses[0, objective].item() == pytest.approx(trl_loss(rows, objective, **theirs), abs=1e-5, rel=1e-5)
    assert abs(losses[0, 0] - losses[0, 1]) > 1e-3, "the objectives' labels must matter"
