"""PreferenceModel: any network with linear layers, conditioned on a preference by SVD-LoRA adapters."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn

from mopref._repr import short_repr
from mopref._warning import warn
from mopref.conditioning import adapter_files, lora_export
from mopref.conditioning.adapter_description import CONFIG_FILE
from mopref.conditioning.adapter_folder import checked_folder, is_there
from mopref.conditioning.base_loading import load_base
from mopref.conditioning.base_model import (
    keep_gradients,
    keep_statistics,
    plain_base_model,
    tell_experts_left_out,
    token_counts,
)
from mopref.conditioning.cache_mark import check_cache, mark_cache
from mopref.conditioning.checkpointing import ActivationCheckpointing
from mopref.conditioning.conditioned_model import ConditionedModel
from mopref.conditioning.head_input import contiguous_head_input
from mopref.conditioning.linear_layer import (
    adapter_device,
    adapter_dtype,
    layer_sizes,
    layers_without_gradient,
    weight_of,
)
from mopref.conditioning.merging import merged_model
from mopref.conditioning.packed_weights import PackedWeights, packed_beside
from mopref.conditioning.preference_gate import PreferenceGate, gate_generator
from mopref.conditioning.preference_state import PreferenceRecord, PreferenceState, check_indices
from mopref.conditioning.saved_form import SavedForm
from mopref.conditioning.svd_lora import SVDLoRAConfig, SVDLoRALayer, check_ranks, own_parameters
from mopref.conditioning.wrapping import LayerSelection, named_layers, select_linear_layers, wrap_layers
from mopref.option_checks import RecordedConvention, checked_recorded_convention
from mopref.setting_types import python_value

__all__ = ["PreferenceModel"]

# The names under which transformers' generate takes prompts.
_GENERATION_INPUTS = ("inputs", "input_ids", "inputs_embeds")


class PreferenceModel(ConditionedModel):
    """A frozen base network with an SVD-LoRA adapter on its linear layers: one model for every preference.

    The adapters are put into ``base_model`` itself; only their parameters require gradients.

    Of a language model one small forward tells which layers can be adapted; those that cannot, and the experts of a
    mixture, are left out with a warning that names them.

    Args:
        base_model: any module with linear layers inside: ``nn.Linear``, quantised ones that derive from it, or GPT-2's
            ``Conv1D``.
        config: the adapters' settings.

    Attributes:
        adapters: the adapted layers by their names in the base model.
        preference_convention: what a preference says to the adapters as they are trained: "importance" (λ_i is the
            importance of objective i), or "ray" (the literature's direction of losses, by a scalarizer's option of that
            name). ``ParetoTrainer`` sets it, and a saved adapter records it; "unrecorded" in one from before version
            0.2.
        companions: parts that are trained beside the adapters, by name, such as a critic; none at the start. They move,
            train and are checkpointed with the model, and are no part of a saved or merged adapter.

    Raises:
        ValueError: no layer to adapt, a target or a block that does not exist, a target that cannot be adapted, ranks
            that no layer has a use for, or a base model that is wrapped already or has no weights.
        TypeError: a base model that is no module, such as its name, or settings of another kind.

    Example:
        >>> model = PreferenceModel(nn.Sequential(nn.Linear(4, 2)), SVDLoRAConfig(objectives=("helpful", "harmless")))
        >>> model(torch.zeros(3, 4), preferences=[[1, 0], [0, 1], [0.5, 0.5]]).shape
        torch.Size([3, 2])
    """

    _without_preferences: ClassVar[str] = ", or use `with model.disabled()` for the base model"

    def __init__(self, base_model: nn.Module, config: SVDLoRAConfig) -> None:
        if not isinstance(config, SVDLoRAConfig):
            raise TypeError(f"config is a {type(config).__name__}: give SVDLoRAConfig(objectives=(…)).")
        base_model = plain_base_model(base_model)
        keep_gradients(base_model)
        selection = select_linear_layers(base_model, config.target_modules, config.layers)
        blocked = layers_without_gradient(selection.layers)
        if blocked:
            raise ValueError(
                f"{_told_blocked(base_model, blocked)} Quantise weights only, or load the base "
                "in float; one that was evaluated before has to be loaded anew."
            )
        if config.target_modules in (None, "all-linear"):
            tell_experts_left_out(base_model)
        self._set_up(base_model, config, selection)

    def _set_up(self, base_model: nn.Module, config: SVDLoRAConfig, selection: LayerSelection) -> None:
        check_ranks(config, map(layer_sizes, selection.layers.values()))
        super().__init__(config.objectives)
        self.adapter_config = config
        self.preference_convention = "importance"
        self.state = state = PreferenceState()
        generator, of_gates = torch.Generator().manual_seed(config.seed), gate_generator(config.seed)
        shared = self._made_gate(config, selection, of_gates) if config.gate == "shared-mlp" else None
        own = of_gates if config.gate == "layer-mlp" else None

        def adapter(layer: nn.Module) -> SVDLoRALayer:
            return SVDLoRALayer(layer, config, state, generator, shared, own)

        self.adapters = wrap_layers(base_model, selection, adapter, train_base=False)
        self.base_model = base_model
        if shared is not None:
            # Beside the base, whose layers share it.
            self.shared_gate = shared
        self.companions = nn.ModuleDict()
        self._checkpointing = ActivationCheckpointing(base_model, state)
        adapter_files.introduce_to_peft()

    @staticmethod
    def _made_gate(config: SVDLoRAConfig, selection: LayerSelection, generator: torch.Generator) -> PreferenceGate:
        """The gate of all layers, where the first of them is."""
        first = next(iter(selection.layers.values()))
        like = torch.empty((), device=adapter_device(first), dtype=adapter_dtype(weight_of(first)))
        return PreferenceGate(len(config.objectives), config.total_rank, like, generator)

    @property
    def preference_convention(self) -> RecordedConvention:
        """What a preference says to the adapters: "importance", "ray" or "unrecorded"; no other word can be set."""
        return self._preference_convention

    @preference_convention.setter
    def preference_convention(self, convention: RecordedConvention) -> None:
        self._preference_convention = checked_recorded_convention(convention, "preference_convention")

    @property
    def config(self) -> Any:
        """The base model's own configuration, where it has one."""
        return self.base_model.config

    @property
    def device(self) -> torch.device:
        """Where the model takes its inputs."""
        device = getattr(self.base_model, "device", None)
        return device if isinstance(device, torch.device) else next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the base model's activations; adapters are float32, or float64 beside a float64 base."""
        dtype = getattr(self.base_model, "dtype", None)
        if isinstance(dtype, torch.dtype):
            return dtype
        return next(parameter.dtype for _, parameter in self._base_parameters() if parameter.is_floating_point())

    @property
    def trained_base_parameters(self) -> list[str]:
        """The base model's own parameters that require a gradient, which no saved adapter would hold."""
        return [name for name, parameter in self._base_parameters() if parameter.requires_grad]

    def _base_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The base model's own parameters, by their names in the plain base model."""
        adapter_parameters = set(map(id, own_parameters(self.adapters).values()))
        for name, parameter in self.base_model.named_parameters():
            if id(parameter) not in adapter_parameters:
                yield name.replace(".base_layer.", "."), parameter

    @property
    def generation_config(self) -> Any:
        """The base model's own settings of generation."""
        return cast(Any, self.base_model).generation_config

    @generation_config.setter
    def generation_config(self, settings: Any) -> None:
        cast(Any, self.base_model).generation_config = settings

    def can_generate(self) -> bool:
        """Whether the base model has a ``generate``; a pipeline of transformers asks, before it looks at the class."""
        able = hasattr(self.base_model, "generate")
        if able:
            adapter_files.introduce_to_pipelines(type(self).__name__)
        return able

    def forward(
        self, *args: Any, preferences: Any = None, preference_indices: Tensor | None = None, **kwargs: Any
    ) -> Any:
        """The base model's forward under the given preferences.

        Args:
            *args: passed to the base model.
            preferences: ``(m,)``, or ``(B, m)`` with one for each row of the batch. They stay in force until the next
                forward, so that a backward pass that recomputes activations sees them.
            preference_indices: ``(B, T)``, where tokens of one row are under several preferences, the row of
                ``preferences`` for each token of the inputs.
            **kwargs: passed to the base model.

        Raises:
            ValueError: no preferences (outside ``disabled()``), or invalid ones.
        """
        rows, counts = token_counts(args, kwargs)
        with self.state.turn:
            self._set_preferences(preferences, rows, counts, indices=preference_indices)
            if self.training:
                self._checkpointing.take_over()
            in_force = self.state.preferences if self.state.enabled else None
            check_cache(kwargs, in_force)
            output = self.base_model(*args, **kwargs)
            mark_cache(output, in_force)
            return output

    def generate(self, *args: Any, preferences: Any = None, **kwargs: Any) -> Any:
        """The base model's ``generate`` under one preference, or one for each prompt ``(B, m)``.

        Sampling, beams and ``num_return_sequences`` are transformers' own; each prompt's preference goes with all of
        its beams and samples. Prompts of different lengths are padded on the left. A text-generation pipeline of
        transformers passes ``preferences`` on with each of its batches.

        Raises:
            ValueError: as :meth:`forward`, or another number of preferences than of prompts.
        """
        inputs = args[0] if args else next((kwargs[k] for k in _GENERATION_INPUTS if kwargs.get(k) is not None), None)
        num_prompts = 1 if inputs is None else len(inputs)
        with self.decoding(preferences, num_prompts) as base:
            return cast(Any, base).generate(*args, **kwargs)

    @contextmanager
    def decoding(self, preferences: Any, rows: int, strengths: Any = None) -> Iterator[nn.Module]:
        """Within this block forwards of the base model, which is yielded, are under these preferences.

        For a loop that makes one token after the other: gates are computed once and kept for the block.

        Args:
            preferences: ``(m,)``, or ``(B, m)`` with one for each row of the batch.
            rows: B.
            strengths: ``(B,)``, what ΔW of each row is multiplied with, ≥ 0; ``None`` for 1.

        Raises:
            ValueError: invalid preferences or another number of them than of rows, or such strengths.
        """
        beside = packed_beside(self.state.packed_weights, self.adapters.values())
        with self.state.turn, self.state.generation(), contiguous_head_input(self.base_model), beside:
            self._set_preferences(preferences, rows, what="prompts")
            column = None if strengths is None else self._checked_strengths(strengths, rows)
            with self.state.in_force(self.state.record._replace(strengths=column)):
                yield self.base_model

    @contextmanager
    def packed_weights(self) -> Iterator[Self]:
        """Within this block generation is faster on a CPU, for a second copy of the frozen weights in memory.

        Each weight of ``nn.Linear`` that is frozen, in float32 and on the CPU is copied once, when it is first needed,
        in the order in which oneDNN's products read it; the copies go with the block. All generation takes them
        (``generate``, rollouts, answers, a server), other forwards do not. The numbers are the same up to rounding.
        Every other weight is taken as it is. One that is changed within the block is copied anew for the next call,
        unless PyTorch does not tell of the change, as of ``weight.data.mul_(2)``.

        Raises:
            ValueError: the model has no such weight, or this build of PyTorch no such products.

        Example:
            >>> model = PreferenceModel(nn.Sequential(nn.Linear(4, 8)), SVDLoRAConfig(("a", "b"), rank=1))
            >>> with model.packed_weights():
            ...     pass  # model.generate(…, preferences=…)
        """
        before = self.state.packed_weights
        if before is None:
            self.state.packed_weights = PackedWeights(self.base_model)
        try:
            yield self
        finally:
            self.state.packed_weights = before

    def _checked_strengths(self, strengths: Any, rows: int) -> Tensor:
        column = torch.as_tensor(strengths, dtype=torch.float64).reshape(-1, 1)
        if len(column) != rows or not (column.isfinite() & (column >= 0)).all():
            raise ValueError(
                f"strengths are {short_repr(strengths)} for {rows} rows: give one finite number ≥ 0 for each."
            )
        return column.to(self._like)

    def _set_preferences(
        self,
        preferences: Any,
        rows: int | None,
        counts: tuple[int, ...] = (),
        what: str = "rows",
        indices: Tensor | None = None,
    ) -> None:
        checked = self.state.preferences
        if self.state.enabled:
            # A copy: a caller who reuses its buffer must not change what a later backward pass sees.
            checked = self.checked(preferences, self._like).clone()
            if indices is not None:
                check_indices(indices, (rows, counts), len(checked))
            elif rows is not None and len(checked) not in (1, rows):
                batches = what == "prompts" and len(checked) > rows
                hint = f" A pipeline that is to have one for each text needs batch_size={len(checked)}."
                raise ValueError(
                    f"{len(checked)} preferences were given for {rows} {what}: give one for each, or a single one."
                    f"{hint if batches else ''}"
                )
        self.state.set(PreferenceRecord(checked, self.state.enabled, counts, indices))

    @property
    def _like(self) -> Tensor:
        """A parameter by whose device and type preferences are made."""
        return next(iter(self.adapters.values())).U

    @contextmanager
    def disabled(self) -> Iterator[Self]:
        """Within this block the model is its base, bit for bit, and needs no preferences."""
        with self.state.turn, self.state.in_force(self.state.record._replace(enabled=False)):
            yield self

    def train(self, mode: bool = True) -> Self:
        """Set the mode; the running statistics of the base, which is frozen, stay as they are."""
        super().train(mode)
        if mode:
            keep_statistics(self.base_model)
        return self

    def gradient_checkpointing_enable(self) -> None:
        """Recompute activations in the backward pass, each under the preferences of its own forward.

        Also where other forwards, with other preferences or with disabled adapters, ran in between, or run in other
        threads meanwhile.
        """
        self._checkpointing.enable()

    def gradient_checkpointing_disable(self) -> None:
        """Keep activations in memory again."""
        self._checkpointing.disable()

    def merge(self, preference: Any, dequantize: bool = False) -> nn.Module:
        """A plain copy of the base model with W(λ) in place of W0, in evaluation mode; this model stays as it is.

        An adapted output head that shares its weight with the input embeddings gets one of its own.

        Args:
            preference: λ, ``(m,)``.
            dequantize: whether the copy of a quantised base has all its weights in float, in the type of those that
                are not quantised: larger in memory, and the same up to rounding. A float base stays as it is.

        Raises:
            ValueError: an invalid preference, or a layer whose weight nothing can be added to: one that is quantised,
                unless ``dequantize`` is asked for and it can be.
        """
        is_wanted = python_value(dequantize, bool, "dequantize")
        return merged_model(self.base_model, self.adapters, self._one_preference(preference), is_wanted)

    def _one_preference(self, preference: Any) -> Tensor:
        preferences = self.checked(preference, self._like)
        if len(preferences) != 1:
            raise ValueError(f"{len(preferences)} preferences were given where one model is made: give a single one.")
        return preferences[0]

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the adapter (not the base) as ``adapter_config.json`` and ``adapter_model.safetensors``.

        An adapter of the same objectives, layers and base is replaced, as after more training; other files of the
        folder stay. Where the base is shared out among processes (FSDP), all of them call it, and the first one writes;
        otherwise call it on one.

        Raises:
            FileExistsError: the folder holds a model, a checkpoint or another adapter, which would be lost.
            ValueError: what could not be loaded again: values that are not finite, or settings changed since.
            OSError: nothing can be written, such as on a full disk; an older adapter is as it was.
        """
        adapter_files.save_adapter(
            checked_folder(folder), self.adapters, self.adapter_config, self.base_model, self.preference_convention
        )

    def _form(self) -> SavedForm:
        """The same as a part of a ``DecisionModel``, which is saved with it."""
        own = adapter_files.saved_tensors(self.adapters)
        sizes = {name: [layer.n_out, layer.n_in] for name, layer in self.adapters.items()}
        settings = asdict(self.adapter_config)
        return SavedForm("PreferenceModel", self.objectives, settings, sizes, own, self.base_model)

    def check_folder(self, folder: str | Path) -> None:
        """Refuse a folder as :meth:`save_pretrained` would, before a training rather than after it.

        Raises:
            FileExistsError: the folder holds a model, a checkpoint or another adapter, which would be lost.
        """
        adapter_files.check_savable(checked_folder(folder), self.adapters, self.adapter_config, self.base_model)

    def export_lora(self, folder: str | Path, preference: Any) -> None:
        """Write the adapter at one fixed preference as a plain LoRA of rank k + p·m, which stock PEFT loads.

        Exact, whatever gate and core: A = Vᵀ and B = c · U · diag(g(λ)), or c · U · C(λ). An earlier export of
        the same adapter, at whatever preference, is replaced.

        Raises:
            FileExistsError: the folder holds something else, which would be lost.
            ValueError: an invalid preference, or values that are not finite.
        """
        path, preference = checked_folder(folder), self._one_preference(preference)
        lora_export.export_lora(path, self.adapters, self.adapter_config, self.base_model, preference)

    def export_lora_set(self, folder: str | Path) -> None:
        """Write plain LoRAs to be scaled by λ: ``shared`` (rank k) and one for each objective, named after it.

        Those of objectives have rank p, and p·m with a full core. With a gate of all layers ("shared-mlp") there are
        ``direction-1``, … of rank 1, too, one for each of its k + p·m numbers δ_j(λ).

        The model at λ is the base plus ``shared`` plus Σ_i λ_i · (objective i) plus Σ_j δ_j(λ) · (direction j): a
        server that scales LoRAs for each request can serve every preference. ``scales.json`` beside them says how:
        ``mopref.serving.lora_scales(folder, λ)`` reads it. An earlier set of the same adapter is replaced.

        Raises:
            FileExistsError: one of the folders holds something else, which would be lost, or an older set has LoRAs
                that this one has not; nothing is written.
            ValueError: a gate of each layer, an objective whose name is no folder's, or values that are not finite.
        """
        lora_export.export_lora_set(checked_folder(folder), self.adapters, self.adapter_config, self.base_model)

    @classmethod
    def load(cls, base_model: nn.Module, folder: str | Path) -> Self:
        """A model with the adapter of a folder on a base model that is loaded already.

        Raises:
            FileNotFoundError: a file of the adapter is missing.
            ValueError: an adapter of another type or another base, files that were changed since they were written or
                lie outside the folder, or tensors that are missing, unexpected, of another shape or type, or not
                finite. The base model is unchanged then.
        """
        folder, base_model = checked_folder(folder), plain_base_model(base_model)
        keep_gradients(base_model)
        content = adapter_files.read_adapter(folder, base_model)
        model = cls.__new__(cls)
        # The layers that were adapted, whatever would be selected today.
        model._set_up(base_model, content.config, named_layers(base_model, content.layers))
        model.preference_convention = content.convention
        blocked = layers_without_gradient({name: layer.base_layer for name, layer in model.adapters.items()})
        if blocked:
            warn(f"{_told_blocked(base_model, blocked)} Use this model without training it.")
        model._take_on(content.tensors)
        return model

    def restore(self, folder: str | Path) -> None:
        """Take on the values of an adapter that :meth:`save_pretrained` wrote of this model, at an earlier step say.

        Raises:
            FileNotFoundError, ValueError: as :meth:`load`, or an adapter of other settings or layers than this one's;
                nothing is changed then.
        """
        path = checked_folder(folder)
        self._take_on(adapter_files.read_values(path, self.adapters, self.adapter_config, self.base_model))

    def _take_on(self, tensors: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in own_parameters(self.adapters).items():
                parameter.copy_(tensors[name])

    @classmethod
    def from_pretrained(
        cls, name_or_folder: str | Path, config: SVDLoRAConfig | None = None, **model_options: Any
    ) -> Self:
        """A model from an adapter folder and the base that it names, or new adapters on a causal language model.

        Args:
            name_or_folder: an adapter folder, a model folder, or a model id of a hub.
            config: the new adapters' settings; none for an adapter folder, which has its own.
            **model_options: for transformers' ``AutoModelForCausalLM.from_pretrained``, such as ``dtype``. An adapter's
                base is loaded at the hub's commit that it was trained on, unless ``revision`` says otherwise.

        Raises:
            ValueError: a config together with an adapter folder, or neither; a folder that holds an adapter beside its
                own base; a base that needs code of its own, has pickled weights alone, or was a folder that is not
                here; and as :meth:`load`.
        """
        folder = checked_folder(name_or_folder, "name_or_folder")
        if is_there(folder, CONFIG_FILE):
            if config is not None:
                adapter_files.refuse_mixed_folder(folder)
                raise ValueError(f"{folder} is an adapter with its own settings: leave config out.")
            base = adapter_files.named_base(folder)
            pinned = {} if base.revision is None else {"revision": base.revision}
            return cls.load(load_base(base.name, pinned | model_options), folder)
        if config is None:
            raise ValueError(
                f"{name_or_folder} has no {CONFIG_FILE}, so it is taken for a base model: give an "
                "SVDLoRAConfig for its new adapters."
            )
        return cls(load_base(str(name_or_folder), model_options), config)


def _told_blocked(base_model: nn.Module, names: list[str]) -> str:
    layer = base_model.get_submodule(names[0])
    kind = type(getattr(layer, "base_layer", layer).weight).__name__
    return (
        f"{names[0]} ({len(names)} such layers), whose weight is a {kind}, passes no gradient back, so that adapters "
        "before it could not learn."
    )
