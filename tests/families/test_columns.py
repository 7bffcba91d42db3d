from contextlib import nullcontext
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers")

from columns import COLUMNS
from outcomes import outcome
from tiny_models import FAMILIES

from mopref import ParetoTrainer, PreferenceModel
from mopref.conditioning.checkpointing import ActivationCheckpointing
from mopref.conditioning.svd_lora import SVDLoRALayer
from mopref.llm.data import sequences
from mopref.llm.policy import Policy


def _kind(column: str) -> str:
    return outcome(lambda: COLUMNS[column](FAMILIES["llama"])).kind


def _first_row_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = SVDLoRALayer.gate
    monkeypatch.setattr(SVDLoRALayer, "gate", lambda layer, λ: plain(layer, λ[:1].expand_as(λ)))


def _scaled_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = SVDLoRALayer.forward
    monkeypatch.setattr(SVDLoRALayer, "forward", lambda layer, x: 0.9 * plain(layer, x))


def _never_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = PreferenceModel.forward

    def forward(model: PreferenceModel, *inputs: Any, preferences: Any = None, **options: Any) -> Any:
        return plain(model, *inputs, preferences=(0.5, 0.5) if preferences is None else preferences, **options)

    monkeypatch.setattr(PreferenceModel, "forward", forward)
    monkeypatch.setattr(PreferenceModel, "disabled", nullcontext)


def _half_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = PreferenceModel.load.__func__

    def load(kind, base, folder):
        model = plain(kind, base, folder)
        with torch.no_grad():
            next(iter(model.adapters.values())).sigma.zero_()
        return model

    monkeypatch.setattr(PreferenceModel, "load", classmethod(load))


def _shifted_log_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Policy.token_log_probabilities
    monkeypatch.setattr(
        Policy, "token_log_probabilities", lambda policy, *arguments: plain(policy, *arguments).roll(1, 1)
    )


def _mask_without_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Policy.token_log_probabilities

    def unmasked(policy: Policy, part: sequences.Sequences, preferences: Tensor | None = None) -> Tensor:
        return plain(policy, part._replace(attention_mask=torch.ones_like(part.attention_mask)), preferences)

    monkeypatch.setattr(Policy, "token_log_probabilities", unmasked)


def _adapters_that_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = ParetoTrainer.train

    def train(trainer: ParetoTrainer) -> list[dict[str, float]]:
        history = plain(trainer)
        with torch.no_grad():
            next(iter(trainer.unwrapped_model.adapters.values())).U.zero_()  # type: ignore[operator, union-attr]
        return history

    monkeypatch.setattr(ParetoTrainer, "train", train)


def _lower_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Policy.reference_log_probabilities
    monkeypatch.setattr(Policy, "reference_log_probabilities", lambda policy, part: 1.1 * plain(policy, part))


def _wrong_states(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = sequences.Sequences.unpadded_hidden_states
    monkeypatch.setattr(
        sequences.Sequences, "unpadded_hidden_states", lambda part: [1.1 * states for states in plain(part)]
    )


def _preference_of_the_last_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ActivationCheckpointing, "_contexts", lambda checkpointing: (nullcontext(), nullcontext()))


@pytest.mark.parametrize(
    ("fault", "columns"),
    [
        (_first_row_for_all, ("rows", "padding", "generate")),
        (_scaled_outputs, ("wrap", "merge", "lora", "lora_set")),
        (_never_disabled, ("disabled", "logprob")),
        (_half_saved, ("save_load",)),
        (_shifted_log_probabilities, ("logprob",)),
        (_mask_without_padding, ("padding",)),
        (_adapters_that_stay, ("dpo", "half", "rlhf")),
        (_lower_reference, ("logprob", "dpo", "rlhf")),
        (_wrong_states, ("kept",)),
        (_preference_of_the_last_forward, ("checkpointed",)),
    ],
)
def test_a_column_notices_a_fault_of_its_kind(fault, columns, monkeypatch):
    if find_spec("peft") is None:
        columns = tuple(column for column in columns if "lora" not in column)
    assert [_kind(column) for column in columns] == ["right"] * len(columns)
    fault(monkeypatch)
    assert not [column for column in columns if _kind(column) not in ("wrong", "foreign")]
