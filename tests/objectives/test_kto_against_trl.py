"""KTO's losses equal TRL's on the same policy, reference, answers and mismatched pairs, objective by objective.

TRL's trainer is built offline on a tiny model. It tokenises the answers, pairs the mismatched ones (by rotation within
a batch), pads them and runs all forwards itself; ours is given the rows that TRL made, so that no part of its number is
ours.
"""

import copy

import pytest
import torch
from kto_inputs import BETA, WEIGHTS, make_rows
from torch import nn

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.objectives import KTO

NAMES = ("helpful", "harmless", "brief")
LABELS = [[1, 0, 1], [0, 1, -1], [0, 0, 0], [1, 1, -1], [0, 0, 0], [1, 1, 1], [0, 1, -1], [0, 0, 1]]
PREFERENCES = {"above the reference": (0.8, 0.1, 0.1), "below it": (0.1, 0.8, 0.1)}


@pytest.fixture(scope="module")
def models(make_llama, randomise, merge_by_hand) -> tuple[PreferenceModel, dict[str, nn.Module], nn.Module]:
    """Our model, and for TRL the policies at PREFERENCES with their weights written out, and the reference."""
    base = make_llama()
    config = SVDLoRAConfig(objectives=NAMES, rank=3, preference_rank=2)
    model = randomise(PreferenceModel(copy.deepcopy(base), config), std=0.15).eval()
    policies = {name: merge_by_hand(base, model, torch.tensor(values)) for name, values in PREFERENCES.items()}
    return model, policies, base


@pytest.fixture
def make_trl_trainer(models, tmp_path):
    """A function of a preference's name and of one label a row, 1 or 0: TRL's trainer, whose data hold the rows."""
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

    def text(ids: list[int]) -> str:
        return "".join(f" t{i}" for i in ids)

    def trainer(preference: str, labels: list[int], **options):
        _, policies, reference = models
        answers = make_rows([[label] for label in labels], seed=10)
        data = {
            "prompt": [text(row["prompt_ids"]) for row in answers],
            # The end token that TRL adds is a word of its own after a blank.
            "completion": [text(row["response_ids"]) + " " for row in answers],
            "label": [label == 1 for label in labels],
        }
        return trl.KTOTrainer(
            model=copy.deepcopy(policies[preference]),
            ref_model=copy.deepcopy(reference),
            args=trl.KTOConfig(
                output_dir=str(tmp_path),
                beta=BETA,
                per_device_train_batch_size=len(labels),
                report_to="none",
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                **options,
            ),
            train_dataset=datasets.Dataset.from_dict(data),
            processing_class=tokenizer,
        )

    return trainer


def trl_loss(trainer) -> float:
    trainer.model.eval()
    with torch.no_grad():
        batch = trainer.data_collator(list(trainer.train_dataset))
        return trainer.compute_loss(trainer.model, batch).item()


def our_rows(trainer, labels: list[list[int]]) -> list[dict]:
    return [
        {
            "prompt_ids": row["prompt_ids"],
            "response_ids": row["completion_ids"],
            "mismatched_response_ids": row["KL_completion_ids"],
            "labels": values,
        }
        for row, values in zip(trainer.train_dataset, labels, strict=True)
    ]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("preference", list(PREFERENCES))
@pytest.mark.parametrize("weights", [{}, WEIGHTS], ids=["equal", "weighted"])
def test_losses_equal_trl(preference, weights, models, make_trl_trainer):
    """The third objective has rows without a label, which TRL knows nothing of; see below."""
    trainers = [make_trl_trainer(preference, [row[i] for row in LABELS], **weights) for i in range(2)]
    rows = our_rows(trainers[0], LABELS)
    expected_prompts = [row["prompt_ids"] for row in make_rows(LABELS, seed=10)]
    assert [row["prompt_ids"] for row in rows] == expected_prompts, "tokenised as they were written"
    assert all(rows[i]["mismatched_response_ids"] == rows[i - 1]["response_ids"] for i in range(8)), "rotated by one"
    kto = KTO(NAMES, BETA, **weights)
    with torch.no_grad():
        losses = kto.losses(models[0], kto.collate(rows), torch.tensor([PREFERENCES[preference]]))[0]
    for objective, trainer in enumerate(trainers):
        assert losses[objective].item() == pytest.approx(trl_loss(trainer), abs=1e-5, rel=1e-5)
    reference_point = trainers[0]._metrics["eval"]["kl"][-1]
    assert reference_point > 0.5 if preference == "above the reference" else reference_point == 0
    assert (losses[0] - losses[1]).abs() > 1e-3, "the objectives' labels must matter"


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_rows_without_a_label_count_for_nothing_but_the_reference_point(models, make_trl_trainer):
    """A row's two losses add up to 1 where both weights are 1: TRL's sums with all n unlabelled rows good and with all
    of them bad are together twice that of the labelled rows, and n.
    """
    preference = "above the reference"
    labels = [row[2] for row in LABELS]
    trainers = [make_trl_trainer(preference, [guess if label < 0 else label for label in labels]) for guess in (1, 0)]
    rows, missing = our_rows(trainers[0], LABELS), labels.count(-1)
    expected = (sum(8 * trl_loss(trainer) for trainer in trainers) - missing) / 2 / (8 - missing)
    kto = KTO(NAMES, BETA)
    with torch.no_grad():
        losses = kto.losses(models[0], kto.collate(rows), torch.tensor([PREFERENCES[preference]]))[0]
    assert losses[2].item() == pytest.approx(expected, abs=1e-5, rel=1e-5)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_evaluation_equals_trl(models, make_trl_trainer):
    """Over all rows at once, in batches of three."""
    preference = "above the reference"
    trainer = make_trl_trainer(preference, [row[0] for row in LABELS], **WEIGHTS)
    kto = KTO(NAMES, BETA, **WEIGHTS)
    losses = kto.mean_losses(models[0], our_rows(trainer, LABELS), torch.tensor([PREFERENCES[preference]]), 3)
    assert losses[0, 0].item() == pytest.approx(trl_loss(trainer), abs=1e-5, rel=1e-5)
