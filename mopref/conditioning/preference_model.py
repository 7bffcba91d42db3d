"""PreferenceModel: any network with linear layers, conditioned on a preference by SVD-LoRA adapters."""

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from mopref.conditioning import adapter_files
from mopref.conditioning.svd_lora import PreferenceState, SVDLoRAConfig, SVDLoRALayer, is_adaptable
from mopref.preferences import validate_preferences

__all__ = ["PreferenceModel", "block_index", "find_preference_model", "require_preference_model"]

# The names under which transformers' generate takes prompts.
_GENERATION_INPUTS = ("inputs", "input_ids", "inputs_embeds")


class PreferenceModel(nn.Module):
    """A frozen base network with an SVD-LoRA adapter on its linear layers: one model for every preference.

    The adapters are put into ``base_model`` itself; only their parameters require gradients.

    Args:
        base_model: any module with ``nn.Linear`` (or GPT-2's ``Conv1D``) layers inside.
        config: the adapters' settings.

    Attributes:
        adapters: the adapted layers by their names in the base model.

    Raises:
        ValueError: no layer to adapt, a target or a block index that does not exist, or adapters already there.

    Example:
        >>> model = PreferenceModel(nn.Sequential(nn.Linear(4, 2)), SVDLoRAConfig(objectives=("helpful", "harmless")))
        >>> model(torch.zeros(3, 4), preferences=[[1, 0], [0, 1], [0.5, 0.5]]).shape
        torch.Size([3, 2])
    """

    def __init__(self, base_model: nn.Module, config: SVDLoRAConfig) -> None:
        super().__init__()
        self.adapter_config = config
        self.state = PreferenceState()
        targets = _select_targets(base_model, config)
        base_model.requires_grad_(False)
        self.base_model = base_model
        self.adapters: dict[str, SVDLoRALayer] = {}
        generator = torch.Generator().manual_seed(config.seed)
        layers: dict[int, SVDLoRALayer] = {}
        for name, module in targets.items():
            # A layer that the base uses under two names keeps being one layer.
            if id(module) not in layers:
                layers[id(module)] = self.adapters[name] = SVDLoRALayer(module, config, self.state, generator)
            base_model.set_submodule(name, layers[id(module)])
        self._checkpointing_is_ours = False

    @property
    def objectives(self) -> tuple[str, ...]:
        """The names of the objectives, in the order of a preference."""
        return self.adapter_config.objectives

    @property
    def config(self) -> Any:
        """The base model's own configuration, where it has one."""
        return self.base_model.config

    def forward(self, *args: Any, preferences: Any = None, **kwargs: Any) -> Any:
        """The base model's forward under the given preferences.

        Args:
            *args: passed to the base model.
            preferences: ``(m,)``, or ``(B, m)`` with one for each row of the batch. They stay in force until the next
                forward, so that a backward pass that recomputes activations sees them.
            **kwargs: passed to the base model.

        Raises:
            ValueError: no preferences (outside ``disabled()``), or invalid ones.
        """
        self._set_preferences(preferences)
        if self.training and not self._checkpointing_is_ours and self._checkpoints_activations():
            # Switched on at the base itself, where the preference of a recomputed block would not be known.
            self.gradient_checkpointing_enable()
        return self.base_model(*args, **kwargs)

    def generate(self, *args: Any, preferences: Any = None, **kwargs: Any) -> Any:
        """The base model's ``generate`` under one preference, or one for each prompt ``(B, m)``.

        Sampling, beams and ``num_return_sequences`` are transformers' own; each prompt's preference goes with all of
        its beams and samples. Prompts of different lengths are padded on the left.

        Raises:
            ValueError: as :meth:`forward`, or another number of preferences than of prompts.
        """
        self._set_preferences(preferences)
        given = 1 if self.state.preferences is None else len(self.state.preferences)
        inputs = args[0] if args else next((kwargs[k] for k in _GENERATION_INPUTS if kwargs.get(k) is not None), None)
        prompts = 1 if inputs is None else len(inputs)
        if self.state.enabled and given not in (1, prompts):
            raise ValueError(
                f"{given} preferences were given for {prompts} prompts: give one for each prompt, or a single one."
            )
        with self.state.generation():
            return cast(Any, self.base_model).generate(*args, **kwargs)

    def _set_preferences(self, preferences: Any) -> None:
        if not self.state.enabled:
            return
        if preferences is None:
            raise ValueError(
                f"preferences are missing: give one weight for each of {', '.join(self.objectives)}, as in "
                "model(..., preferences=λ), or use `with model.disabled()` for the base model."
            )
        device = next(iter(self.adapters.values())).scale.device
        # A copy: a caller who reuses its buffer must not change what a later backward pass sees.
        self.state.preferences = validate_preferences(preferences, self.objectives).to(device, copy=True)

    @contextmanager
    def disabled(self) -> Iterator["PreferenceModel"]:
        """Within this block the model is its base, bit for bit, and needs no preferences."""
        with self._in_force(self.state.preferences, enabled=False):
            yield self

    @contextmanager
    def _in_force(self, preferences: Tensor | None, enabled: bool) -> Iterator[None]:
        before = (self.state.preferences, self.state.enabled)
        self.state.preferences, self.state.enabled = preferences, enabled
        try:
            yield
        finally:
            self.state.preferences, self.state.enabled = before

    def gradient_checkpointing_enable(self) -> None:
        """Recompute activations in the backward pass, each under the preferences of its own forward.

        Also where other forwards, with other preferences or with disabled adapters, ran in between.
        """
        if self._checkpointing_is_ours:
            return
        base = cast(Any, self.base_model)
        # Non-reentrant checkpoints ask for their contexts at every forward: there the preference is remembered.
        settings = {"use_reentrant": False, "context_fn": self._checkpoint_contexts}
        enable = getattr(base, "activation_checkpointing_enable", None) or base.gradient_checkpointing_enable
        enable(settings)
        self._checkpointing_is_ours = True

    def gradient_checkpointing_disable(self) -> None:
        """Keep activations in memory again."""
        base = cast(Any, self.base_model)
        (getattr(base, "activation_checkpointing_disable", None) or base.gradient_checkpointing_disable)()
        self._checkpointing_is_ours = False

    def _checkpoints_activations(self) -> bool:
        # Asked of the blocks, since the models' own property differs between releases of transformers.
        return any(getattr(module, "gradient_checkpointing", False) for module in self.base_model.modules())

    def _checkpoint_contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _EnteredAnew(partial(self._in_force, self.state.preferences, self.state.enabled))

    def merge(self, preference: Any) -> nn.Module:
        """A plain copy of the base model with W(λ) in place of W0; this model stays as it is.

        Raises:
            ValueError: an invalid preference, or weights that are not floating-point (a quantised base).
        """
        chosen = self._one_preference(preference)
        for name, layer in self.adapters.items():
            if not layer.base_layer.weight.is_floating_point():  # type: ignore[operator, union-attr]
                raise ValueError(f"{name} is quantised, so nothing can be added to its weight: load the base in float.")
        merged = copy.deepcopy(self.base_model)
        for name, module in list(merged.named_modules(remove_duplicate=False)):
            if isinstance(module, SVDLoRALayer):
                merged.set_submodule(name, module.base_layer)
        with torch.no_grad():
            for name, layer in self.adapters.items():
                weight = cast(Tensor, merged.get_submodule(name).weight)
                delta = layer.delta_weight(chosen)
                # The sum is rounded to the base's type once.
                total = weight.to(delta.dtype) + (delta.T if layer.transposed else delta)
                weight.copy_(total)
        return merged.requires_grad_(True)

    def _one_preference(self, preference: Any) -> Tensor:
        checked = validate_preferences(preference, self.objectives)
        if len(checked) != 1:
            raise ValueError(f"{len(checked)} preferences were given where one model is made: give a single one.")
        return checked[0]

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the adapter (not the base) as ``adapter_config.json`` and ``adapter_model.safetensors``."""
        adapter_files.save_adapter(self, Path(folder))

    def export_lora(self, folder: str | Path, preference: Any) -> None:
        """Write the adapter at one fixed preference as a plain LoRA of rank k + p·m, which stock PEFT loads.

        Exact: A = Vᵀ and B = c · U · diag(g(λ)).

        Raises:
            ValueError: an invalid preference, or a folder that holds a mopref adapter, which would be lost.
        """
        adapter_files.export_lora(self, Path(folder), self._one_preference(preference))

    def export_lora_set(self, folder: str | Path) -> None:
        """Write m + 1 plain LoRAs: ``shared`` (rank k) and one for each objective (rank p), named after it.

        The model at λ is the base plus ``shared`` plus Σ_i λ_i · (objective i): a server that scales LoRAs for each
        request can serve every preference.
        """
        adapter_files.export_lora_set(self, Path(folder))

    @classmethod
    def load(cls, base_model: nn.Module, folder: str | Path) -> "PreferenceModel":
        """Put an adapter from a folder onto a base model that is loaded already.

        Raises:
            FileNotFoundError: a file of the adapter is missing.
            ValueError: an adapter of another type or another base, or tensors that are missing, unexpected, of another
                shape or not finite. The base model is unchanged then.
        """
        folder = Path(folder)
        config, tensors = adapter_files.read_adapter(folder, base_model)
        model = cls(base_model, config)
        with torch.no_grad():
            for name, layer in model.adapters.items():
                for part in adapter_files.PARTS:
                    getattr(layer, part).copy_(tensors[f"{name}.{part}"])
        return model

    @classmethod
    def from_pretrained(
        cls, name_or_folder: str | Path, config: SVDLoRAConfig | None = None, **model_options: Any
    ) -> "PreferenceModel":
        """Load an adapter folder together with its base, or a causal language model to put new adapters on.

        Args:
            name_or_folder: an adapter folder, a model folder, or a model id of a hub.
            config: the new adapters' settings; none for an adapter folder, which has its own.
            **model_options: for transformers' ``AutoModelForCausalLM.from_pretrained``, such as ``dtype``.

        Raises:
            ValueError: a config together with an adapter folder, or neither; and as :meth:`load`.
        """
        from transformers import AutoModelForCausalLM

        folder = Path(name_or_folder)
        if (folder / adapter_files.CONFIG_FILE).is_file():
            if config is not None:
                raise ValueError(f"{folder} is an adapter with its own settings: leave config out.")
            base_name = adapter_files.read_config(folder)["base_model"]
            if not base_name:
                raise ValueError(
                    f"{folder} does not name its base model: load the base and call PreferenceModel.load(base, folder)."
                )
            return cls.load(AutoModelForCausalLM.from_pretrained(base_name, **model_options), folder)
        if config is None:
            raise ValueError(
                f"{name_or_folder} has no {adapter_files.CONFIG_FILE}, so it is taken for a base model: give an "
                "SVDLoRAConfig for its new adapters."
            )
        return cls(AutoModelForCausalLM.from_pretrained(str(name_or_folder), **model_options), config)


class _EnteredAnew(AbstractContextManager[None]):
    """A context for every backward pass through one graph: what ``contextmanager`` makes can be entered only once."""

    def __init__(self, make: Callable[[], AbstractContextManager[None]]) -> None:
        self.make = make

    def __enter__(self) -> None:
        self.current = self.make()
        self.current.__enter__()

    def __exit__(self, *error: Any) -> bool | None:
        return self.current.__exit__(*error)


def find_preference_model(model: nn.Module) -> PreferenceModel | None:
    """The preference model inside what accelerate wraps around it for distributed runs; ``None`` if there is none."""
    inner: Any = model
    while not isinstance(inner, PreferenceModel):
        inner = getattr(inner, "module", None)
        if not isinstance(inner, nn.Module):
            return None
    return inner


def require_preference_model(model: nn.Module, purpose: str) -> PreferenceModel:
    """The preference model inside, for a purpose that needs one, such as "the reference of DPO".

    Raises:
        TypeError: there is none.
    """
    inner = find_preference_model(model)
    if inner is None:
        raise TypeError(
            f"{purpose} needs a PreferenceModel, whose adapters can be disabled, but the model is a "
            f"{type(model).__name__}: wrap it as PreferenceModel(model, SVDLoRAConfig(…))."
        )
    return inner


def _select_targets(base_model: nn.Module, config: SVDLoRAConfig) -> dict[str, nn.Module]:
    """The layers to adapt, by every name that the base model has for them."""
    find_head = getattr(base_model, "get_output_embeddings", None)
    head = None if find_head is None else find_head()
    candidates: dict[str, nn.Module] = {}
    for name, module in base_model.named_modules(remove_duplicate=False):
        if isinstance(module, SVDLoRALayer):
            raise ValueError(f"{name} has an adapter already: wrap the plain base model, such as merge(λ) returns.")
        if is_adaptable(module):
            candidates[name] = module
    if "" in candidates:
        raise ValueError("the base model is a single linear layer: wrap it as nn.Sequential(layer).")

    if config.target_modules is not None:

        def is_target(name: str, target: str) -> bool:
            return name == target or name.endswith("." + target)

        for target in config.target_modules:
            if not any(is_target(name, target) for name in candidates):
                raise ValueError(
                    f"no linear layer is called {target!r}; those of the model end in "
                    f"{', '.join(sorted({name.rsplit('.', 1)[-1] for name in candidates}))}."
                )
        chosen = {n: m for n, m in candidates.items() if any(is_target(n, t) for t in config.target_modules)}
    else:
        chosen = {name: module for name, module in candidates.items() if module is not head}

    if config.layers is not None:
        blocks = {name: block_index(name) for name in candidates}
        count = 1 + max((index for index in blocks.values() if index is not None), default=-1)
        unknown = [index for index in config.layers if not -count <= index < count]
        if unknown:
            raise ValueError(f"layers has {unknown[0]}, but the model has {count} blocks: 0 … {count - 1}.")
        wanted = {index % count for index in config.layers}
        chosen = {name: module for name, module in chosen.items() if blocks[name] in wanted}
    if not chosen:
        raise ValueError(
            f"no layer to adapt: {type(base_model).__name__} has {len(candidates)} linear layers, none of which is "
            f"selected by target_modules={config.target_modules} and layers={config.layers}."
        )
    return chosen


def block_index(name: str) -> int | None:
    """The index of the block that a module belongs to: the first number in its dotted name.

    Example:
        >>> block_index("model.layers.3.mlp.up_proj")
        3
    """
    return next((int(part) for part in name.split(".") if part.isdigit()), None)
