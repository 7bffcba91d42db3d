"""A reward from any sequence-classification model of transformers: reward models, cost models, classifiers."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn

from mopref._pickled_weights import tensors_alone
from mopref._repr import short_repr
from mopref.argument_kinds import checked_texts, checks_arguments
from mopref.evaluation_mode import evaluation_mode
from mopref.llm.data.chat_template import PairTokenizer
from mopref.llm.data.lengths import batches_of_like_length

from .reward import REWARDS, Prompt, Reward, check_counts

__all__ = ["ClassifierReward"]

_Activation = Literal["logit", "probability"]


@REWARDS.register("classifier")
class ClassifierReward(Reward):
    """``sign`` times a model's logit, or probability, for a response to its prompt.

    How a prompt and a response are laid out:

    * with a chat template (``tokenizer.chat_template``): as the template renders the whole dialogue, the response as
      the assistant's last message. To use a layout of your own, set a chat template.
    * without one, for a tokenizer with a separator token (BERT and its kin): as a pair of texts; the contents of
      several chat messages are one text, a blank line between them.
    * without either: the prompt's tokens, the response's tokens and the end-of-sequence token, as ``PairTokenizer``
      lays them out.
    * ``with_prompt=False``: the response's text alone.

    More than ``max_length`` tokens: a pair is cut by the tokenizer, the longer text first; a response alone loses its
    end; anything else loses its start, since such models read their score at the end.

    Padding is on the right, whatever the tokenizer is set to, and masked. Decoders find the token to read their score
    at as the last one that is not the padding token. If ``model.config`` names no padding token, one that ends no row
    stands in while the model runs; taking the end-of-sequence token instead would move the score one token back.

    Args:
        model: has ``.logits`` of shape ``(N, labels)`` and a transformers ``config``. It is used in evaluation mode and
            without gradient, where it is; nothing in it is changed.
        tokenizer: the model's.
        sign: 1 where a high output is good (a reward model), −1 where it is bad (a cost or toxicity model).
        label: the output to read, by index or by name in ``config.id2label``. Required if there are several.
        activation: ``"logit"``, or ``"probability"``: the sigmoid of a single output or if ``config.problem_type`` is
            ``"multi_label_classification"``, else the softmax over the labels.
        batch_size: rows in one forward pass.
        max_length: tokens in a row; by default what tokenizer and model allow.
        with_prompt: whether the model is shown the prompt.

    Raises:
        ValueError: any other ``sign`` or ``activation``, an unknown or missing label, or a size below 1.
    """

    @checks_arguments(but=("sign", "label"))
    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        sign: int,
        label: int | str | None = None,
        activation: _Activation = "logit",
        batch_size: int = 16,
        max_length: int | None = None,
        with_prompt: bool = True,
    ) -> None:
        is_number = isinstance(sign, Real) and not isinstance(sign, bool)
        if not is_number or sign not in (1, -1):
            raise ValueError(
                f"sign is {short_repr(sign)}: rewards are maximised, so it must be 1 if a high output is good (a "
                "reward model) or -1 if it is bad (a cost or toxicity model)."
            )
        if activation not in get_args(_Activation):
            raise ValueError(f"activation is {activation!r}: it must be 'logit' or 'probability'.")
        for name, value in (("batch_size", batch_size), ("max_length", max_length)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}: nothing could be read, so it must be ≥ 1.")
        if not callable(tokenizer) or not hasattr(tokenizer, "model_max_length"):
            raise TypeError(f"tokenizer is of type {type(tokenizer).__name__}: give the model's tokenizer.")
        if not hasattr(model, "config"):
            raise TypeError(f"model is a {type(model).__name__} without a config: give a classifier of transformers.")
        self.model = model
        self.tokenizer = tokenizer
        self.sign = int(sign)
        self.activation = activation
        self.batch_size = batch_size
        self.with_prompt = with_prompt
        self.config: Any = model.config
        self.max_length = _longest_input(tokenizer, self.config) if max_length is None else max_length
        self.label, label_name = self._find_label(label)
        quantity = "probability" if activation == "probability" else "output"
        self.direction = f"higher is a {'higher' if sign == 1 else 'lower'} {quantity} of {label_name!r}"
        self._pairs: PairTokenizer | None = None
        if with_prompt and not getattr(tokenizer, "chat_template", None) and tokenizer.sep_token_id is None:
            self._pairs = PairTokenizer(tokenizer)

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike[str],
        *,
        sign: int,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        **options: Any,
    ) -> Self:
        """A reward whose model and tokenizer are loaded by name or from a folder.

        Args:
            model: its name or folder.
            sign: as for the class.
            device: where the model runs.
            dtype: of its weights.
            **options: as for the class.

        Raises:
            ValueError: the checkpoint lacks weights that the classifier needs, such as its head, which would be random.
        """
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        # No code that comes with a model is run, nor any in a pickle.
        safe = {"trust_remote_code": False}
        tokenizer = AutoTokenizer.from_pretrained(model, **safe)
        with tensors_alone(os.fspath(model)):
            classifier, report = AutoModelForSequenceClassification.from_pretrained(
                model, dtype=dtype, output_loading_info=True, weights_only=True, **safe
            )
        missing = sorted(report["missing_keys"])
        if missing:
            raise ValueError(
                f"{os.fspath(model)!r} has no weights for {', '.join(missing[:4])}{', …' if len(missing) > 4 else ''}, "
                "which would be random numbers: it is no trained sequence-classification model, so name one that is."
            )
        return cls(classifier.to(device), tokenizer, sign=sign, **options)

    def options(self) -> dict[str, Any]:
        """The options by name; the model by its own name."""
        names = ("sign", "label", "activation", "batch_size", "max_length", "with_prompt")
        model = getattr(self.config, "name_or_path", "") or type(self.model).__name__
        return {"model": model, **{name: getattr(self, name) for name in names}}

    @checks_arguments
    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        """``sign`` times the output for N responses, shape ``(N,)``, float64 on the CPU."""
        responses = checked_texts(responses, "responses")
        check_counts({"prompts": prompts, "responses": responses})
        rows = [self._encode(prompt, response) for prompt, response in zip(prompts, responses, strict=True)]
        values = torch.zeros(len(rows), dtype=torch.float64)
        batches = batches_of_like_length([len(row["input_ids"]) for row in rows], self.batch_size)
        with evaluation_mode(self.model), torch.inference_mode():
            for batch in batches:
                values[batch] = self._read([rows[row] for row in batch])
        return self.sign * values

    def _find_label(self, label: int | str | None) -> tuple[int, str]:
        names = {int(index): str(name) for index, name in (self.config.id2label or {}).items()}
        labels = {index: names.get(index, str(index)) for index in range(int(self.config.num_labels))}
        choices = ", ".join(f"{index} {name!r}" for index, name in labels.items())
        if label is None:
            if len(labels) > 1:
                raise ValueError(f"the model has {len(labels)} outputs: say with label which one to read, {choices}.")
            label = 0
        is_key = isinstance(label, str | Integral) and not isinstance(label, bool)
        indices = [index for index, name in labels.items() if is_key and label in (index, name)]
        if len(indices) != 1:
            raise ValueError(f"label is {short_repr(label)}: it must be one of the model's labels, {choices}.")
        return indices[0], labels[indices[0]]

    def _encode(self, prompt: Prompt, response: str) -> dict[str, list[int]]:
        """The token ids of one row, and what else the model reads beside them, without padding."""
        if not self.with_prompt:
            return self._tokenize(response)
        if self._pairs is not None:
            # No limit here: it would cut off the end-of-sequence token, where the score is read.
            ids = self._pairs.response_ids(response, sys.maxsize, not isinstance(prompt, str))
            ids = ids or self._pairs.end_of_turn
            return {"input_ids": (self._pairs.prompt_ids(prompt) + ids)[-self.max_length :]}
        if getattr(self.tokenizer, "chat_template", None):
            messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
            text = self.tokenizer.apply_chat_template(
                [*messages, {"role": "assistant", "content": response}], tokenize=False
            )
            return {"input_ids": self.tokenizer(text, add_special_tokens=False)["input_ids"][-self.max_length :]}
        return self._tokenize(
            prompt if isinstance(prompt, str) else "\n\n".join(message["content"] for message in prompt), response
        )

    def _tokenize(self, *texts: str) -> dict[str, list[int]]:
        row = dict(self.tokenizer(*texts, truncation=True, max_length=self.max_length, padding=False))
        row.pop("attention_mask", None)
        if not row["input_ids"]:
            # An empty text without special tokens: there must be one token to read a score at.
            row["input_ids"] = [self.tokenizer.eos_token_id or 0]
        return row

    def _read(self, rows: list[Mapping[str, list[int]]]) -> Tensor:
        """The label's logit or probability for one batch, shape ``(rows,)``."""
        device = next(self.model.parameters()).device
        lengths = torch.tensor([len(row["input_ids"]) for row in rows])
        with self._padding_token({row["input_ids"][-1] for row in rows}) as padding:
            inputs = {
                name: nn.utils.rnn.pad_sequence(
                    [torch.tensor(row[name]) for row in rows],
                    batch_first=True,
                    padding_value=padding if name == "input_ids" else 0,
                ).to(device)
                for name in rows[0]
            }
            mask = torch.arange(int(lengths.max())) < lengths.unsqueeze(1)
            logits = self.model(**inputs, attention_mask=mask.long().to(device)).logits.double().cpu()
        if self.activation == "probability":
            is_multi_class = logits.shape[1] > 1 and self.config.problem_type != "multi_label_classification"
            logits = logits.softmax(dim=1) if is_multi_class else logits.sigmoid()
        return logits[:, self.label]

    @contextmanager
    def _padding_token(self, last_ids: set[int]) -> Iterator[int]:
        """The padding token: the config's, or while the block runs the first id that ends no row."""
        config = self.config.get_text_config()
        own_token = config.pad_token_id
        if own_token is not None and own_token >= 0:
            yield own_token
            return
        stand_in = next(index for index in range(len(last_ids) + 1) if index not in last_ids)
        config.pad_token_id = stand_in
        try:
            yield stand_in
        finally:
            config.pad_token_id = own_token


def _longest_input(tokenizer: Any, config: Any) -> int:
    """How many tokens a row may have: the smaller of what tokenizer and model say, 2048 if neither does."""
    limits = [tokenizer.model_max_length, getattr(config.get_text_config(), "max_position_embeddings", None)]
    # A tokenizer that knows no limit says 10^30.
    return min([int(limit) for limit in limits if limit is not None and 0 < limit < 1_000_000], default=2048)
