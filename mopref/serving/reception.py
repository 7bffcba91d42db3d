"""From a client's form to the row of a batch."""

from dataclasses import dataclass
from typing import Any

from mopref._repr import quoted_list, short_repr
from mopref.conditioning import PreferenceModel
from mopref.llm.data.chat_template import PairTokenizer
from mopref.llm.data.records import text_problem
from mopref.llm.policy import Sampling
from mopref.llm.policy.positions import position_limits
from mopref.llm.policy.token_check import token_counts
from mopref.serving.decoding import DecodingRequest
from mopref.serving.forms import ChatForm
from mopref.serving.terms import RefusedError, Terms

__all__ = ["Reception", "longest_context"]


def longest_context(model: PreferenceModel, most: int) -> int:
    """The tokens that a prompt and its answer may have: as many as the model was made for, and no more than ``most``.

    Beyond what it was made for nothing is worth much; and where the scaling of its positions depends on the longest row
    of a batch, no row is as long as to change it for the others.
    """
    limits = position_limits(model.base_model)
    return min([most, *(limit for limit in (limits.tokens, limits.threshold) if limit is not None)])


@dataclass(frozen=True)
class Reception:
    """Makes requests of forms: one tokenizer, one model, and what its operator allows.

    Attributes:
        model: the conditioned model.
        pairs: its tokenizer.
        terms: what may be asked.
    """

    model: PreferenceModel
    pairs: PairTokenizer
    terms: Terms

    @property
    def sampling(self) -> Sampling:
        """The stop tokens and the vocabulary of its answers."""
        return Sampling().for_tokenizer(self.pairs)

    def request(self, form: ChatForm) -> DecodingRequest:
        """The row of a batch.

        Raises:
            RefusedError: what cannot be answered, or is not allowed.
        """
        terms = self.terms
        if form.model not in (None, terms.name):
            raise RefusedError(
                404, f"there is no model {short_repr(form.model)}: here is {quoted_list([terms.name])}.", "model"
            )
        if form.max_tokens is not None and form.max_completion_tokens is not None:
            raise RefusedError(
                400, "max_tokens and max_completion_tokens are one setting: give one of them.", "max_tokens"
            )
        if form.stream_options is not None and not form.stream:
            raise RefusedError(
                400,
                "stream_options are given, and no stream is asked for: leave them out, or set stream.",
                "stream_options",
            )
        preference, strength = terms.preference(form.preference), terms.strength(form.strength)
        ids = self._prompt_ids([message.model_dump() for message in form.messages])
        asked = form.max_tokens if form.max_completion_tokens is None else form.max_completion_tokens
        return DecodingRequest(
            tuple(ids),
            preference,
            terms.new_tokens(asked, len(ids)),
            strength,
            form.temperature,
            form.top_p,
            form.seed,
        )

    def _prompt_ids(self, messages: list[dict[str, Any]]) -> list[int]:
        if problem := _dialogue_problem(messages):
            raise RefusedError(400, problem, "messages")
        if problem := text_problem(messages, assistant_only=False) or self.pairs.prompt_problem(messages):
            # What is to be done is said there to whoever has rows of data.
            raise RefusedError(400, f"the prompt {problem.rpartition(': ')[0] or problem}: reword it.", "messages")
        try:
            ids = self.pairs.prompt_ids(messages)
        except ValueError as error:
            raise RefusedError(400, f"the prompt {error}", "messages") from error
        try:
            token_counts(self.model.base_model, [{"prompt_ids": ids}], ("prompt_ids",), "prompt")
        except ValueError as error:
            raise RefusedError(400, f"{error}", "messages") from error
        return ids


def _dialogue_problem(messages: list[dict[str, Any]]) -> str | None:
    """Why a dialogue has no answer; ``None`` where it may have one."""
    if not any(message["content"].strip() for message in messages):
        return "messages hold nothing but white space, so that there is nothing to answer: write something."
    if messages[-1]["role"] == "assistant":
        return "messages end with one of the assistant's, which is not gone on with here: end them with the user's."
    return None
