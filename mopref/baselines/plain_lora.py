"""Plain LoRAs: an adapter that no preference changes, and models that mix several of them by λ, exactly."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mopref.argument_kinds import checked_kind, checks_arguments
from mopref.baselines.interfaces import Cost
from mopref.baselines.runs import MethodSetup, Trained, Trainings, preference_label
from mopref.conditioning import PreferenceModel, SVDLoRAConfig

__all__ = ["PlainLoRA", "mixed_model", "plain_config", "plain_model", "put_lora", "trained_lora"]


class PlainLoRA(NamedTuple):
    """ΔW = B A of every adapted layer.

    Attributes:
        factors: A ``(r, n_in)`` and B ``(n_out, r)`` by the layer's name, on the CPU.
        cost: what its training took.
    """

    factors: dict[str, tuple[Tensor, Tensor]]
    cost: Cost

    @property
    def rank(self) -> int:
        """r."""
        return len(next(iter(self.factors.values()))[0])

    @property
    def num_parameters(self) -> int:
        """How many numbers it has."""
        return sum(a.numel() + b.numel() for a, b in self.factors.values())


def plain_config(adapter: SVDLoRAConfig) -> SVDLoRAConfig:
    """Settings whose shared directions are a plain LoRA of the same total rank r = k + p·m, starting at ΔW = 0."""
    return replace(_plain(adapter), rank=adapter.total_rank, preference_rank=1)


def _plain(adapter: SVDLoRAConfig) -> SVDLoRAConfig:
    """The settings with what a plain LoRA has: singular values that are affine in λ, and our start."""
    return replace(adapter, gate="linear", core="diagonal", initialization="zero-output")


def plain_model(make_model: Callable[[SVDLoRAConfig], PreferenceModel], adapter: SVDLoRAConfig) -> PreferenceModel:
    """A model with a plain LoRA: W0 + c·U·Vᵀ at every λ.

    σ is held at 1 and s at 0, so that U and V of the shared directions are all that is trained, and the directions of
    the preferences, which ``PreferenceModel`` has one of for each objective, add exactly nothing.

    Args:
        make_model: makes the base model anew, with adapters of given settings.
        adapter: the settings whose total rank it has.
    """
    model = make_model(plain_config(adapter))
    for layer in model.adapters.values():
        layer.sigma.requires_grad_(False).fill_(1.0)
        layer.scale.requires_grad_(False).zero_()
    return model


def trained_lora(trainings: Trainings, preference: Sequence[float], prefix: str = "plain", **options: Any) -> PlainLoRA:
    """A plain LoRA, trained for one preference.

    Args:
        trainings: of the comparison.
        preference: λ ``(m,)``.
        prefix: begins the training's name, which the preference and, where given, the number of steps end.
        **options: of ``Trainings.trained``: an objective, a scalarizer, rows, or settings such as ``steps``.
    """
    setup, steps = trainings.setup, options.get("steps")
    name = f"{prefix} {preference_label(setup.names, preference)}{'' if steps is None else f' steps={steps}'}"
    make: Callable[[], PreferenceModel] = lambda: plain_model(setup.make_model, setup.adapter)  # noqa: E731
    return lora_of(trainings.trained(name, make_model=make, at=preference, **options), setup)


def lora_of(trained: Trained, setup: MethodSetup) -> PlainLoRA:
    """The factors of what a plain model's training left."""
    rank, scaling = setup.adapter.total_rank, setup.adapter.scaling
    ends = (".U", ".V")
    layers = dict.fromkeys(name[: -len(ends[0])] for name in trained.tensors if name.endswith(ends[0]))
    factors = {}
    for layer in layers:
        up, down = (trained.tensors[layer + end][:, :rank] for end in ends)
        factors[_plain_name(layer)] = (down.T.contiguous(), scaling * up)
    return PlainLoRA(factors, trained.cost)


def _plain_name(layer: str) -> str:
    """The name of an adapted layer in the plain base model."""
    return layer.removeprefix("base_model.").replace(".base_layer.", ".")


def put_lora(model: PreferenceModel, lora: PlainLoRA) -> None:
    """Let a plain model be W0 + B A from now on."""
    with torch.no_grad():
        for name, layer in model.adapters.items():
            a, b = lora.factors[name]
            layer.U[:, : lora.rank] = (b / layer.config.scaling).to(layer.U)
            layer.V[:, : lora.rank] = a.T.to(layer.V)


@checks_arguments
def mixed_model(
    make_model: Callable[[SVDLoRAConfig], PreferenceModel],
    adapter: SVDLoRAConfig,
    loras: Sequence[PlainLoRA],
    slope: float = 1.0,
    offset: float = 0.0,
) -> PreferenceModel:
    """A model whose weights are a mixture of m LoRAs: W(λ) = W0 + Σ_i (slope·λ_i + offset) · B_i A_i.

    Exact: the factors stand side by side, B = [B_1 … B_m] and A likewise, and are not averaged: the average of A's
    times that of B's is another matrix. With an offset they stand there twice, once for each term.

    Args:
        make_model: makes the base model anew, with adapters of given settings.
        adapter: names objectives and layers.
        loras: one for each objective, in their order.
        slope: of every weight in its λ_i.
        offset: of every weight.

    Raises:
        ValueError: another number of LoRAs than of objectives, or LoRAs of different ranks.

    Source: Ramé et al., Rewarded soups, arXiv 2306.04488, on ΔW.
    """
    for place, lora in enumerate(loras):
        checked_kind(lora, PlainLoRA, f"loras[{place}]")
    ranks = {lora.rank for lora in loras}
    if len(loras) != len(adapter.objectives) or len(ranks) != 1:
        raise ValueError(
            f"there are {len(loras)} LoRAs of ranks {sorted(ranks)} for {len(adapter.objectives)} objectives: give one "
            "for each, all of one rank."
        )
    rank, shared = ranks.pop(), sum(lora.rank for lora in loras) if offset else 0
    model = make_model(replace(_plain(adapter), rank=shared, preference_rank=rank, scaling=1.0))
    with torch.no_grad():
        for name, layer in model.adapters.items():
            ups, downs = _side_by_side(loras, name)
            copies = 2 if offset else 1
            layer.U.copy_(torch.cat([ups] * copies, dim=1))
            layer.V.copy_(torch.cat([downs] * copies, dim=1))
            layer.sigma.fill_(offset)
            layer.scale.fill_(slope)
    return model.requires_grad_(False)


def _side_by_side(loras: Sequence[PlainLoRA], name: str) -> tuple[Tensor, Tensor]:
    """B's and transposed A's of a layer, ``(n_out, m·r)`` and ``(n_in, m·r)``."""
    factors: list[Mapping[str, tuple[Tensor, Tensor]]] = [lora.factors for lora in loras]
    ups = torch.cat([own[name][1] for own in factors], dim=1)
    return ups, torch.cat([own[name][0].T for own in factors], dim=1)
