"""How one tokenizer lays out prompts and responses: by its chat template, or plainly without one."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Self

from torch import nn

from mopref._repr import short_repr
from mopref._warning import warn

from .content_change import CONTENT_PROBE, Trimming, trimming
from .template_clock import TWO_MOMENTS, asks_for_now, at_moment, clock_template
from .text_in_place import continuation, leads_of
from .thinking import ThinkingBlock, thinking_block, without_last_block
from .turn_tokens import EndOfTurn, end_of_turn, is_added, token_pattern, token_text

__all__ = ["PairTokenizer"]

# Stand for a prompt and a response when the template is asked what it puts around them.
_QUESTION, _PROBE = "question", "PROBE"
_PLAIN_NAMES = {"user": "Human", "assistant": "Assistant", "system": "System"}
_PLAIN_START = "\n\nAssistant:"


class _Layout(NamedTuple):
    """How a template lays out a response.

    Attributes:
        start: what it puts between a prompt and its response.
        end: what it puts after the response.
        tokens: the special tokens of a dialogue.
        trim: what it takes from the response.
        thinking: its block of thoughts.
    """

    start: str = ""
    end: EndOfTurn | None = None
    tokens: frozenset[int] = frozenset()
    trim: Trimming = Trimming()
    thinking: ThinkingBlock | None = None


def refuse_no_tokenizer(tokenizer: Any) -> None:
    """Refuse what is no tokenizer, such as the name of one.

    Raises:
        TypeError: what is neither a tokenizer of transformers, which can be called, nor a ``PairTokenizer``.
    """
    is_one = callable(tokenizer) and not isinstance(tokenizer, nn.Module | type) and not inspect.isroutine(tokenizer)
    if not is_one and not isinstance(tokenizer, PairTokenizer):
        raise TypeError(
            f"tokenizer is {short_repr(tokenizer)}, of type {type(tokenizer).__name__}: give the tokenizer itself, as "
            "AutoTokenizer.from_pretrained(…) makes it of a name."
        )


class PairTokenizer:
    r"""Tokenises prompts and responses the way one tokenizer's chat template lays them out.

    With a chat template a prompt is rendered up to the point where the assistant speaks, and a response is its text
    followed by the template's own end of turn: the first token that the template puts after a response and that is one
    by itself, special or not (what the template puts around a response is read off once, from a rendered example; a
    template whose prompt is no prefix of the whole dialogue gets the tokenizer's end-of-sequence token instead). A text
    prompt is one user message. A response that ends in its end of turn already gets no second one, one of a template
    that trims contents is trimmed, and one that holds its own block of thoughts gets no second one. A template that
    writes the date writes that of the moment at which this was made.

    Without a chat template a prompt is its text, after a beginning-of-sequence token if the tokenizer adds one, and a
    response its text followed by the end-of-sequence token; chat messages are laid out as ``\n\nHuman: …
    \n\nAssistant: …``. Nothing is put between a text prompt and a response: end the prompt the way the model expects.

    A response of several assistant messages is their contents, a blank line between them. Its ids are those that it has
    after a prompt: a tokenizer that marks the beginning of a text puts no such mark before it.

    Args:
        tokenizer: a tokenizer of transformers.

    Attributes:
        has_template: whether the tokenizer has a chat template.
        end_of_turn: the ids that end a response; the last one is the token by which it is known to have ended.

    Raises:
        ValueError: the tokenizer has neither an end-of-turn nor an end-of-sequence token, or its chat template cannot
            render a question and an answer.
        TypeError: what is no tokenizer, such as the name of one.

    Warns:
        UserWarning: the template ends a turn with another token than the tokenizer's end of sequence, writes the date,
            or changes what a response says; or prompt and response spell something else than the dialogue tokenised in
            one go.
    """

    def __init__(self, tokenizer: Any) -> None:
        refuse_no_tokenizer(tokenizer)
        self.tokenizer = tokenizer
        self.has_template = bool(getattr(tokenizer, "chat_template", None))
        # One for all rows: the date does not change between two of them, nor between a prompt and its dialogue.
        template = clock_template(tokenizer)
        self._template = None if template is None else at_moment(template, datetime.now())
        prompt, dialogue = self._example() if self.has_template else ("", "")
        self._leads = leads_of(self._ids, prompt.rpartition(_QUESTION)[2])
        layout = self._read_template(prompt, dialogue) if self.has_template else _Layout()
        self.response_start, self._trim, self._thinking = layout.start, layout.trim, layout.thinking
        self.beginning = self._read_beginning(prompt)
        self._end = layout.end or self._end_of_sequence()
        before_end = self._continuation(self._end.before) if self._end.before else []
        # Whether the end is tokenised by itself; another one may take white space from the response, or join it.
        self._end_is_apart = is_added(tokenizer, self._end.token_id) and not before_end
        self.end_of_turn = [*before_end, self._end.token_id]
        self._ends = tuple({self._end.text, *self._texts([tokenizer.eos_token_id])})
        self._turn_tokens = token_pattern({*self._ends, *self._texts([tokenizer.bos_token_id, *layout.tokens])})
        self._warn_of_another_end()
        self._warn_of_another_text()
        self._warn_of_the_clock()

    @classmethod
    def of(cls, tokenizer: Any) -> Self:
        """The pair tokenizer of a tokenizer; one that is a pair tokenizer already is not made again."""
        return tokenizer if isinstance(tokenizer, cls) else cls(tokenizer)

    def prompt_ids(self, prompt: str | Sequence[Mapping[str, str]]) -> list[int]:
        """The ids of a whole prompt, from the beginning of the sequence up to where the response starts.

        Raises:
            ValueError: the chat template refuses the prompt; the message has the template's own words.
        """
        if self.has_template:
            return self._ids(self._render(_messages(prompt), add_generation_prompt=True))
        ids = self._ids(prompt if isinstance(prompt, str) else _plain_dialogue(prompt))
        return ids if ids[:1] == self.beginning else self.beginning + ids

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
        text, start = self._trim(self._without_end(_joined(response))), self._start(after_messages)
        if not text.strip():
            return []
        if self._thinking is not None:
            text, start = self._thinking.placed(text, start)
        text = text.lstrip() if start == " " else text
        if self._end_is_apart:
            ids = self._continuation(start + text)
            silence = self._continuation(start) if start else []
            return [] if ids == silence else [*ids, self._end.token_id][:limit]
        ids = self._continuation(start + text + self._end.before + self._end.text)
        if ids[-1:] != [self._end.token_id]:
            ids = [*self._continuation(start + text + self._end.before), self._end.token_id]
        silence = self._continuation(start + self._end.before)
        return [] if ids[:-1] == silence else ids[:limit]

    def prompt_problem(self, prompt: str | Sequence[Mapping[str, str]]) -> str | None:
        """What makes a prompt another dialogue than it says, to follow its name in a message; ``None`` if nothing does.

        With a chat template that is a text with one of the template's own turn tokens, which would open or end a turn;
        without one, a message that holds more than text. A text prompt without a template is laid out by its author.
        """
        if self.has_template:
            texts = [prompt] if isinstance(prompt, str) else [message["content"] for message in prompt]
            return next(filter(None, map(self._turn_problem, texts)), None)
        calls = [] if isinstance(prompt, str) else [message for message in prompt if message.get("tool_calls")]
        return "holds 'tool_calls', which only a chat template can render: write them as text." if calls else None

    def response_problem(self, response: str | Sequence[Mapping[str, str]]) -> str | None:
        """What makes a response more than one turn, or less, to follow its name in a message; ``None`` for nothing."""
        text = self._without_end(_joined(response))
        return self._turn_problem(text) or (None if self._thinking is None else self._thinking.problem(text))

    def truncate_prompt(
        self, ids: list[int], limit: int, prompt: str | Sequence[Mapping[str, str]] | None = None
    ) -> list[int]:
        """At most ``limit`` ids of a prompt: its last message loses its beginning.

        What the template puts before that message, earlier messages among it, stays, as does what it puts behind. Where
        that alone is too long, and where the prompt or a template is not given, it is the last ids, behind the
        beginning-of-sequence token if the prompt starts with one.
        """
        if len(ids) <= limit:
            return ids
        head = 0 if prompt is None else self._length_before_last_message(ids, limit, prompt)
        if head == 0 and ids[:1] == self.beginning:
            head = 1
        return (ids[:head] + ids[len(ids) - max(limit - head, 0) :])[:limit]

    def _length_before_last_message(self, ids: list[int], limit: int, prompt: str | Sequence[Mapping[str, str]]) -> int:
        """The ids before the last message's content; 0 if nothing of it would be left beside them and those after."""
        if not self.has_template:
            return 0
        messages = _messages(prompt)
        messages[-1]["content"] = _PROBE
        before, probe, after = self._render(messages, add_generation_prompt=True).rpartition(_PROBE)
        if not probe:
            return 0
        head = _common_length(ids, self._ids(before))
        tail = _common_length(ids[::-1], self._continuation(after)[::-1])
        return head if head + tail < limit else 0

    def _ids(self, text: str) -> list[int]:
        return [int(index) for index in self.tokenizer(text, add_special_tokens=False)["input_ids"]]

    def _continuation(self, text: str) -> list[int]:
        """The ids of a text that stands after others."""
        return continuation(self._ids, self._leads, text) if self._leads else self._ids(text)

    def _start(self, after_messages: bool) -> str:
        return " " if after_messages and not self.has_template else self.response_start

    def _render(self, messages: list[dict[str, str]], add_generation_prompt: bool, template: str | None = None) -> str:
        template = template or self._template
        options = {} if template is None else {"chat_template": template}
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=add_generation_prompt, **options
                )
            )
        except ImportError:
            raise
        except Exception as error:
            raise ValueError(
                f"is refused by the chat template ({type(error).__name__}: {error}): bring it into the form that the "
                "template asks for, or leave it out."
            ) from error

    def _example(self) -> tuple[str, str]:
        """A rendered prompt, and the same with its response."""
        user, answer = {"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _PROBE}
        try:
            prompt = self._render([user], add_generation_prompt=True)
            return prompt, self._render([user, answer], add_generation_prompt=False)
        except ValueError as error:
            raise ValueError(f"a question with its answer {error}") from error

    def _read_template(self, prompt: str, dialogue: str) -> _Layout:
        """What the template of a rendered example is."""
        special = {index for index, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        special |= {*self.tokenizer.all_special_ids}
        tokens = frozenset(special.intersection(self._ids(dialogue)) - {self.tokenizer.unk_token_id})
        thinking = thinking_block(prompt, dialogue, _PROBE)
        if thinking is not None:
            blocks = (thinking.opening, thinking.closing)
            tokens = frozenset(index for index in tokens if token_text(self.tokenizer, index) not in blocks)
        base = prompt if dialogue.startswith(prompt) else without_last_block(prompt)
        if not dialogue.startswith(base) or dialogue[len(base) :].count(_PROBE) != 1:
            warn(
                "the tokenizer's chat template renders a prompt in another way once it is answered, so what it puts "
                "around a response is not known: a response is its text and the end-of-sequence token.",
            )
            return _Layout(tokens=tokens)
        start, after = dialogue[len(base) :].split(_PROBE)
        end = end_of_turn(self.tokenizer, self._continuation, after)
        # Where the prompt has a block that the dialogue lacks, nothing is known to stand behind it.
        return _Layout(start if base == prompt else "", end, tokens, self._read_trimming(base + start, after), thinking)

    def _read_trimming(self, before: str, after: str) -> Trimming:
        """What the template takes from a response between these two."""
        answer = {"role": "assistant", "content": CONTENT_PROBE}
        try:
            dialogue = self._render([{"role": "user", "content": _QUESTION}, answer], add_generation_prompt=False)
        except ValueError:  # It takes other contents than this one.
            return Trimming()
        trim = trimming(dialogue.removeprefix(before).removesuffix(after))
        if trim is None:
            warn(
                "the tokenizer's chat template changes what a response says, by more than its outer white space (tried "
                "with brackets, quotes and line breaks): log-probabilities are of responses as they are given, so give "
                "them in the form that the model writes.",
            )
        return trim or Trimming()

    def _read_beginning(self, prompt: str) -> list[int]:
        """The beginning-of-sequence token that prompts start with, if they do."""
        bos = self.tokenizer.bos_token_id
        ids = self._ids(prompt) if self.has_template else list(self.tokenizer("a")["input_ids"])
        return [int(bos)] if bos is not None and ids[:1] == [bos] else []

    def _texts(self, indices: Iterable[int | None]) -> set[str]:
        """The texts of special tokens, as far as the tokenizer has them."""
        return {token_text(self.tokenizer, int(index)) for index in indices if index is not None} - {""}

    def _end_of_sequence(self) -> EndOfTurn:
        index = self.tokenizer.eos_token_id
        if index is None:
            raise ValueError(
                "the tokenizer has neither an end-of-turn token in its chat template nor an end-of-sequence token, so "
                "a response could not be ended: set tokenizer.eos_token."
            )
        return EndOfTurn("", token_text(self.tokenizer, int(index)), int(index))

    def _without_end(self, text: str) -> str:
        """A response's text without the end of turn that it ends in, if it does, and without what follows that."""
        while (bare := text.rstrip()).endswith(self._ends):
            end = next(end for end in self._ends if bare.endswith(end))
            text = bare.removesuffix(end).removesuffix(self._end.before)
        return text

    def _turn_problem(self, text: str) -> str | None:
        match = self._turn_tokens.search(text) if self._turn_tokens is not None else None
        if match is None:
            return None
        return (
            f"holds {match.group()!r}, which opens or ends a turn: give texts and messages as they are before they are "
            "rendered, or leave the row out."
        )

    def _warn_of_another_end(self) -> None:
        eos = self.tokenizer.eos_token_id
        if self._end.token_id != eos:
            other = "it has no end-of-sequence token" if eos is None else f"its eos_token is {self._text([eos])!r}"
            warn(
                f"the tokenizer's chat template ends a turn with {self._end.text!r}, but {other}: responses end with "
                "the template's, and mopref samples with both as stop tokens; where you generate with anything else, "
                "give it stop_tokens(tokenizer) of mopref.llm.policy, or it runs on to its limit.",
            )

    def _warn_of_another_text(self) -> None:
        """Compare the ids of a prompt and its response with those of the same dialogue in one go."""
        prompt = _QUESTION if self.has_template else f"{_QUESTION}\n"
        apart = self.prompt_ids(prompt) + self.response_ids(_PROBE, 1 << 30)
        rendered = self._render(_messages(prompt), add_generation_prompt=True) if self.has_template else prompt
        whole = rendered + self._start(False) + _PROBE + self._end.before + self._end.text
        together = self._ids(whole)
        if not self.has_template and together[:1] != self.beginning:
            together = self.beginning + together
        if apart != together and self._text(apart) != self._text(together):
            warn(
                f"prompt and response tokenised apart spell {self._text(apart)!r}, but the tokenizer reads that "
                f"dialogue in one go as {self._text(together)!r}: log-probabilities are of the former, so check that "
                "it is what the model was trained on.",
            )

    def _warn_of_the_clock(self) -> None:
        if self._template is not None and self._writes_the_date(str(clock_template(self.tokenizer))):
            warn(
                "the tokenizer's chat template writes the date or time of now: rows made on another day have other "
                "tokens, and so have answers and a resumed run. Put a fixed date in the place of strftime_now(…) in "
                "tokenizer.chat_template, here and where the model is served.",
            )

    def _writes_the_date(self, template: str) -> bool:
        """Whether two moments are rendered otherwise, or a template still asks for now with one of them given."""
        user = {"role": "user", "content": _QUESTION}
        for messages in ([user], [{"role": "system", "content": _QUESTION}, user]):
            try:
                texts = {self._render(messages, True, at_moment(template, moment)) for moment in TWO_MOMENTS}
            except ValueError:  # A template without a system message, say.
                continue
            if len(texts) > 1:
                return True
        return asks_for_now(at_moment(template, TWO_MOMENTS[0]))

    def _text(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids))


def _messages(prompt: str | Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(map(dict, prompt))


def _joined(response: str | Sequence[Mapping[str, str]]) -> str:
    return response if isinstance(response, str) else "\n\n".join(message["content"] for message in response)


def _plain_dialogue(messages: Sequence[Mapping[str, str]]) -> str:
    turns = [f"\n\n{_PLAIN_NAMES.get(message['role'], message['role'])}: {message['content']}" for message in messages]
    return "".join([*turns, _PLAIN_START])


def _common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """How many elements two sequences begin with alike."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(first), len(second)))
