"""How one tokenizer lays out prompts and responses: by its chat template, or plainly without one."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

__all__ = ["PairTokenizer"]

# Stands for a response when the template is asked what it puts around one.
_PROBE = "PROBE"


class PairTokenizer:
    r"""Tokenises prompts and responses the way one tokenizer's chat template lays them out.

    With a chat template a prompt is rendered up to the point where the assistant speaks, and a response is its text
    followed by the template's own end-of-turn token (what the template puts around a response is read off once, from a
    rendered example; a template whose prompt is no prefix of the whole dialogue gets the tokenizer's end-of-sequence
    token instead). A text prompt is one user message.

    Without a chat template a prompt is its text, after a beginning-of-sequence token if the tokenizer adds one, and a
    response its text followed by the end-of-sequence token; chat messages are laid out as ``\n\nHuman: …
    \n\nAssistant: …``. Nothing is put between a text prompt and a response: end the prompt the way the model expects.

    A response of several assistant messages is their contents, a blank line between them.

    Args:
        tokenizer: a tokenizer of transformers.

    Attributes:
        has_template: whether the tokenizer has a chat template.
        end_of_turn: the ids that end a response.

    Raises:
        ValueError: the tokenizer has neither an end-of-turn nor an end-of-sequence token.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.has_template = bool(getattr(tokenizer, "chat_template", None))
        self.beginning: list[int] = []
        self.response_start = ""
        end = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
        if self.has_template:
            self.response_start, end = self._read_template(end)
        elif tokenizer.bos_token_id is not None and list(tokenizer("a")["input_ids"])[:1] == [tokenizer.bos_token_id]:
            self.beginning = [int(tokenizer.bos_token_id)]
        if not end:
            raise ValueError(
                "the tokenizer has neither an end-of-turn token in its chat template nor an end-of-sequence token, so "
                "a response could not be ended: set tokenizer.eos_token."
            )
        self.end_of_turn = end

    @classmethod
    def of(cls, tokenizer: Any) -> Self:
        """The pair tokenizer of a tokenizer; one that is a pair tokenizer already is not made again."""
        return tokenizer if isinstance(tokenizer, cls) else cls(tokenizer)

    def prompt_ids(self, prompt: str | Sequence[Mapping[str, str]]) -> list[int]:
        """The ids of a whole prompt, from the beginning of the sequence up to where the response starts."""
        if self.has_template:
            messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(map(dict, prompt))
            return self._ids(self._render(messages, add_generation_prompt=True))
        return self.beginning + self._ids(prompt if isinstance(prompt, str) else _plain_dialogue(prompt))

    def response_ids(
        self, response: str | Sequence[Mapping[str, str]], limit: int, after_messages: bool = False
    ) -> list[int]:
        """The ids of a response with its end-of-turn token; none if the text has no tokens.

        Args:
            response: text or the assistant's messages.
            limit: the largest number of ids. A longer response is cut on the right and has no end-of-turn token, since
                it does not end there.
            after_messages: whether the prompt is chat messages: without a chat template a blank then parts the response
                from ``Assistant:``.
        """
        text = response if isinstance(response, str) else "\n\n".join(message["content"] for message in response)
        start = " " if after_messages and not self.has_template else self.response_start
        ids = self._ids(start + (text.lstrip() if start == " " else text))
        if len(ids) == len(self._ids(start)):
            return []
        return (ids + self.end_of_turn)[:limit]

    def truncate_prompt(self, ids: list[int], limit: int) -> list[int]:
        """The last ``limit`` ids of a prompt, behind the beginning-of-sequence token if the tokenizer adds one."""
        if len(ids) <= limit:
            return ids
        count = max(limit - len(self.beginning), 0)
        return (self.beginning + ids[len(ids) - count :])[:limit]

    def _ids(self, text: str) -> list[int]:
        return [int(index) for index in self.tokenizer(text, add_special_tokens=False)["input_ids"]]

    def _render(self, messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
        return str(
            self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)
        )

    def _read_template(self, end_of_sequence: list[int]) -> tuple[str, list[int]]:
        """The text that the template puts before a response, and the ids that it ends one with."""
        user, answer = {"role": "user", "content": "question"}, {"role": "assistant", "content": _PROBE}
        prompt = self._render([user], add_generation_prompt=True)
        dialogue = self._render([user, answer], add_generation_prompt=False)
        if not dialogue.startswith(prompt) or dialogue[len(prompt) :].count(_PROBE) != 1:
            return "", end_of_sequence
        start, end = dialogue[len(prompt) :].split(_PROBE)
        ids = self._ids(end)
        # The turn is over at the first special token; what follows (a line break, say) opens the next turn and is never
        # generated.
        for position, index in enumerate(ids):
            if self._is_special(index):
                return start, ids[: position + 1]
        return start, end_of_sequence

    def _is_special(self, index: int) -> bool:
        token = self.tokenizer.added_tokens_decoder.get(index)
        return index in self.tokenizer.all_special_ids or bool(token is not None and token.special)


def _plain_dialogue(messages: Sequence[Mapping[str, str]]) -> str:
    names = {"user": "Human", "assistant": "Assistant", "system": "System"}
    turns = [f"\n\n{names.get(message['role'], message['role'])}: {message['content']}" for message in messages]
    return "".join([*turns, "\n\nAssistant:"])
