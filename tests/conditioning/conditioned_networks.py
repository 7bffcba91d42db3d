"""Small networks, layers of other kinds than PyTorch's own, and the comparison of a row with its merged model."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from mopref import PreferenceModel, SVDLoRAConfig

__all__ = [
    "IDS",
    "ROW_PREFERENCES",
    "BlockingLinear",
    "DoubledLinear",
    "GroupedLinear",
    "PackedLinear",
    "TinyLanguageModel",
    "TupleLinear",
    "assert_each_row_is_its_merged_model",
    "conditioned",
    "logits_of_rows",
    "pack_linear_layers",
    "small_config",
    "store_in_int8",
    "tiny_image_model",
    "tiny_t5",
]

# As many tokens as rows, so that the two can be mistaken for each other.
IDS = torch.tensor([[50, 7, 33], [12, 60, 8], [9, 41, 25]])
ROW_PREFERENCES = torch.tensor([[1.0, 0.0], [0.3, 0.7], [0.0, 1.0]])


def small_config(**settings: Any) -> SVDLoRAConfig:
    """Settings of two objectives and low ranks."""
    return SVDLoRAConfig(("a", "b"), rank=2, preference_rank=2, **settings)


def conditioned(base: nn.Module, **settings: Any) -> PreferenceModel:
    """A base with adapters that act, in evaluation mode."""
    model = PreferenceModel(base, small_config(**settings)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in model.adapters.values():
            layer.U.normal_(0, 0.3, generator=generator)
    return model


def logits_of_rows(network: nn.Module, rows: slice, **options: Any) -> Tensor:
    """A language model's logits of some rows of :data:`IDS`."""
    return network(input_ids=IDS[rows], use_cache=False, **options).logits


@torch.no_grad()
def assert_each_row_is_its_merged_model(
    model: PreferenceModel, call: Callable[..., Tensor] = logits_of_rows, preferences: Tensor = ROW_PREFERENCES
) -> None:
    """Rows under their own preferences are what the models merged at them make of each row alone."""
    together = call(model, slice(None), preferences=preferences)
    alone = [call(model.merge(row), slice(i, i + 1)) for i, row in enumerate(preferences)]
    torch.testing.assert_close(together, torch.cat(alone), atol=2e-4, rtol=2e-4)
    other = call(model, slice(None), preferences=preferences.flip(0))
    assert (other - together).abs().max() > 0.05, "the test would be vacuous if λ had no effect"


class PackedLinear(nn.Linear):
    """A weight in 8 bits, in one long column as quantised layers pack it."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=False, device="meta")
        self.step = layer.weight.detach().abs().max().item() / 127
        numbers = (layer.weight.detach() / self.step).round().to(torch.int8)
        self.weight = nn.Parameter(numbers.view(-1, 1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """The product with the unpacked weight."""
        return linear(x, self.weight.view(self.out_features, self.in_features).to(x.dtype) * self.step)


class BlockingLinear(nn.Linear):
    """A layer whose kernel has no backward pass, as where activations are quantised too."""

    def forward(self, x: Tensor) -> Tensor:
        """The product, without a graph."""
        return super().forward(x).detach()


class TupleLinear(nn.Linear):
    """A router that gives two things."""

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """The product, and something else."""
        return super().forward(x), None


class GroupedLinear(nn.Linear):
    """A weight of two groups, each with a product of its own."""

    def forward(self, x: Tensor) -> Tensor:
        """``(…, groups, n_out / groups)``."""
        return super().forward(x).unflatten(-1, (2, -1))


class DoubledLinear(nn.Linear):
    """A layer that does more with its weight than to multiply with it."""

    def forward(self, x: Tensor) -> Tensor:
        """The product with W ∘ |W|."""
        return linear(x, self.weight * self.weight.abs(), self.bias)


class _Int8(Tensor):
    """A tensor that is multiplied with, and knows no view, no flattening and no sum, as quantised tensors do."""

    @staticmethod
    def __new__(cls, numbers: Tensor, step: float) -> "_Int8":
        made = Tensor._make_wrapper_subclass(cls, numbers.shape, dtype=torch.float32, device=numbers.device)
        made.numbers, made.step = numbers, step
        return made

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function is linear:
            x, weight, *others = args
            return linear(x, weight.numbers.float() * weight.step, *others, **(kwargs or {}))
        return super().__torch_function__(function, types, args, kwargs)

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        aten = torch.ops.aten
        if function in (aten.detach.default, aten.alias.default, aten.clone.default):
            return _Int8(args[0].numbers, args[0].step)
        raise NotImplementedError(f"no {function} of a quantised tensor")


def store_in_int8(base: nn.Module) -> nn.Module:
    """The base, whose linear layers are PyTorch's own with a quantised tensor for a weight."""
    for layer in base.modules():
        if type(layer) is nn.Linear:
            step = layer.weight.detach().abs().max().item() / 127
            numbers = (layer.weight.detach() / step).round().to(torch.int8)
            layer.weight = nn.Parameter(_Int8(numbers, step), requires_grad=False)
    return base


def pack_linear_layers(base: nn.Module) -> nn.Module:
    """The base with packed layers in place of its linear layers, the output head excepted."""
    for name, layer in list(base.named_modules()):
        if type(layer) is nn.Linear and name != "lm_head":
            base.set_submodule(name, PackedLinear(layer))
    return base


class TinyLanguageModel(nn.Module):
    """Embeddings of tokens, and whatever a test makes of them; it tells of itself what transformers' models tell."""

    main_input_name = "input_ids"

    def __init__(self, body: Callable[..., Any], vocabulary: int = 20, **layers: nn.Module) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 4)
        self.layers = nn.ModuleDict(layers)
        self.body = body
        self.inputs: list[Tensor] = []

    def get_input_embeddings(self) -> nn.Module:
        """The embeddings of tokens."""
        return self.embedding

    def forward(self, input_ids: Tensor, **_: Any) -> Any:
        """The body's answer to the rows' embeddings ``(B, T, 4)``."""
        self.inputs.append(input_ids)
        return self.body(self, self.embedding(input_ids))


def tiny_t5(**options: Any) -> nn.Module:
    """A random encoder-decoder whose feed-forward layers are asked for their weight's type."""
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"vocab_size": 97, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = T5Config(**sizes | {"decoder_start_token_id": 0, "dropout_rate": 0.0} | options)
        model = T5ForConditionalGeneration(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0, 0.2)
    return model


def tiny_image_model() -> nn.Module:
    """A random LLaVA, whose token 96 stands for a part of an image."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    images = CLIPVisionConfig(**sizes, image_size=16, patch_size=8)
    text = LlamaConfig(**sizes, vocab_size=97, num_key_value_heads=2, initializer_range=0.2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlavaForConditionalGeneration(
            LlavaConfig(vision_config=images, text_config=text, image_token_index=96)
        ).eval()
