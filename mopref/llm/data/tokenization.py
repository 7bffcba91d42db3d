"""Records and texts as token ids, made once, so that the prompt's ids are exactly the start of the whole sequence's.

Prompt and response are tokenised apart, each as it is in its place, and their ids put one after the other. Tokenising
prompt + response in one go may merge characters across the border, and then the prompt's ids are no prefix and the
response's log-probability is taken over the wrong tokens. At generation time, too, the model continues the prompt's own
ids, so this is the sequence it would produce.

Wherever a function takes a ``tokenizer``, this is one of transformers or a ``PairTokenizer``, which saves reading the
chat template again. Lengths are in tokens. A prompt longer than ``max_prompt_length`` is an error, is truncated (its
last message loses its beginning, and where that is not enough, or without a chat template, the last tokens stay behind
the beginning-of-sequence token), or its row is dropped with a warning, as ``on_long_prompt`` says. A response is cut on
the right at ``max_response_length``, and is never empty. How many are cut, and lose their end of turn, is told by a
warning, and so is how many labelled pairs have two equal responses, of which nothing can be learnt.

A response that ends in its end of turn already gets no second one. A text that holds one of the tokens by which the
chat template parts turns is refused anywhere else: it is no turn, but several, or was rendered before. So is a prompt
that the template refuses. Without a chat template, a text prompt is laid out by its author and may hold any token.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

from mopref._progress import progress_bar
from mopref._tables import is_table
from mopref._warning import warn
from mopref.setting_types import python_value

from .chat_template import PairTokenizer, refuse_no_tokenizer
from .kept_rows import kept_rows
from .length_limits import LengthLimits, OnLongPrompt
from .prompts import check_prompt_records, prompt_list
from .records import (
    check_dimensions,
    check_objectives,
    record_dimensions,
    refuse_columns,
    surrogate_problem,
    validate_records,
    validate_response_records,
)
from .unpaired_records import check_unpaired_objectives, validate_unpaired_records

__all__ = [
    "plain_text_rows",
    "tokenize_pair",
    "tokenize_prompts",
    "tokenize_records",
    "tokenize_responses",
    "tokenize_unpaired",
]


class _Row(NamedTuple):
    """A row of token ids, and how many of its responses were cut."""

    columns: dict[str, Any]
    cuts: int


class _Form(NamedTuple):
    """How records of one kind become rows.

    Attributes:
        kind: what they are.
        names: of their labels.
        check: refuses records that are wrong.
        ids_of: the token ids of a record, by its number; ``None`` to drop it.
        columns_of: what else its row holds.
    """

    kind: str
    names: tuple[str, ...]
    check: Callable[[Iterable[Mapping[str, Any]]], None]
    ids_of: Callable[[PairTokenizer, Mapping[str, Any], LengthLimits, int], _Row | None]
    columns_of: Callable[[Mapping[str, Any]], dict[str, Any]]


@dataclass
class _Counts:
    """How many rows were made, and what was left out or cut."""

    rows: int = 0
    drops: int = 0
    responses: int = 0
    cuts: int = 0
    equal: int = 0

    def add(self, columns: Mapping[str, Any], cuts: int) -> None:
        """Count a row, of which so many responses were cut."""
        self.rows += 1
        self.responses += sum(name.startswith("response") for name in columns)
        self.cuts += cuts
        is_pair = "response_0_ids" in columns and columns["response_0_ids"] == columns["response_1_ids"]
        self.equal += is_pair and max(columns["labels"]) >= 0

    def tell(self, limits: LengthLimits) -> None:
        """Warn of what was left out, of what was cut, and of what nothing can be learnt of."""
        if self.drops:
            warn(
                f"left out {self.drops} of {self.drops + self.rows} rows, whose prompt has more than "
                f"{limits.max_prompt_length} tokens.",
            )
        _warn_of_cuts(self.cuts, self.responses, limits)
        if self.equal:
            warn(
                f"{self.equal} of {self.rows} rows are labelled, but their two responses are equal within "
                f"max_response_length = {limits.max_response_length} tokens, so that nothing can be learnt of them: "
                "raise the limit if they differ later, or leave these rows out.",
            )


def tokenize_pair(
    tokenizer: Any,
    record: Mapping[str, Any],
    max_prompt_length: int = 512,
    max_response_length: int = 512,
    on_long_prompt: Literal["error", "truncate"] = "error",
    row: int = 0,
) -> dict[str, list[int]]:
    """The token ids of one preference record: ``prompt_ids``, ``response_0_ids`` and ``response_1_ids``.

    Args:
        tokenizer: lays out and tokenises.
        record: a preference record.
        max_prompt_length: in tokens.
        max_response_length: in tokens.
        on_long_prompt: ``"error"`` or ``"truncate"``.
        row: the number that messages name.

    Raises:
        ValueError: limits out of range, a prompt that is too long, or a prompt or response without tokens.
    """
    if on_long_prompt not in ("error", "truncate"):
        raise ValueError(f"on_long_prompt is {on_long_prompt!r}: it must be 'error' or 'truncate' for a single record.")
    limits = LengthLimits(max_prompt_length, max_response_length, on_long_prompt)
    pair = _pair_ids(PairTokenizer.of(tokenizer), record, limits, row)
    assert pair is not None, "only 'drop' leaves a record out."
    _warn_of_cuts(pair.cuts, 2, limits)
    return pair.columns


def tokenize_records(
    tokenizer: Any,
    records: Iterable[Mapping[str, Any]],
    objectives: Sequence[str],
    max_prompt_length: int = 512,
    max_response_length: int = 512,
    on_long_prompt: OnLongPrompt = "error",
    progress: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Any:
    """One row of token ids for each preference record.

    Args:
        tokenizer: lays out and tokenises.
        records: preference records, see ``mopref.llm.data.records``.
        objectives: m names of label columns.
        max_prompt_length: in tokens.
        max_response_length: in tokens.
        on_long_prompt: ``"error"``, ``"truncate"`` or ``"drop"``.
        progress: show a progress bar.
        cache_dir: the cache folder in which the rows of a ``datasets.Dataset`` are kept; mopref's own by default.

    Returns:
        Rows with ``prompt_ids``, ``response_0_ids``, ``response_1_ids``, ``labels``: the record's m labels (0, 1 or
        −1), in the order of ``objectives``, and ``objectives``: their m names, one tuple for all rows. A list of
        dicts; of a ``datasets.Dataset`` another one, on the disk.

    Raises:
        ValueError: limits out of range, records that ``validate_records`` refuses, a prompt that is too long or that
            the chat template refuses, a text with a token that opens or ends a turn, a response without tokens, or no
            row left; the row is named.
    """
    limits = LengthLimits(max_prompt_length, max_response_length, on_long_prompt)
    names = check_objectives(objectives)
    check = partial(validate_records, objectives=names)
    form = _Form("pairs", names, check, _pair_ids, lambda record: _labels(record, names))
    return _tokenized(tokenizer, _replayable(records), limits, form, progress, cache_dir)


def tokenize_responses(
    tokenizer: Any,
    records: Iterable[Mapping[str, Any]],
    dimensions: Sequence[str],
    max_prompt_length: int = 512,
    max_response_length: int = 512,
    on_long_prompt: OnLongPrompt = "error",
    progress: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Any:
    """One row of token ids for each response record, for ``mopref.objectives.SFT``.

    Args:
        tokenizer: lays out and tokenises.
        records: response records, see ``mopref.llm.data.records``.
        dimensions: m names.
        max_prompt_length: in tokens.
        max_response_length: in tokens.
        on_long_prompt: ``"error"``, ``"truncate"`` or ``"drop"``.
        progress: show a progress bar.
        cache_dir: the cache folder in which the rows of a ``datasets.Dataset`` are kept; mopref's own by default.

    Returns:
        Rows with ``prompt_ids``, ``response_ids``, ``dimensions``: m bools, whether the record is data of each of
        ``dimensions``, in their order, and ``objectives``: their m names, one tuple for all rows. A list of
        dicts; of a ``datasets.Dataset`` another one, on the disk.

    Raises:
        ValueError: limits out of range, records that ``validate_response_records`` refuses, a prompt that is too long
            or that the chat template refuses, a text with a token that opens or ends a turn, a response without tokens,
            or no row left; the row is named.
    """
    limits = LengthLimits(max_prompt_length, max_response_length, on_long_prompt)
    names = check_dimensions(dimensions)

    def flags(record: Mapping[str, Any]) -> dict[str, Any]:
        own_names = record_dimensions(record)
        return {"dimensions": [name in own_names for name in names], "objectives": names}

    form = _Form("responses", names, partial(validate_response_records, dimensions=names), _response_ids, flags)
    return _tokenized(tokenizer, _replayable(records), limits, form, progress, cache_dir)


def tokenize_unpaired(
    tokenizer: Any,
    records: Iterable[Mapping[str, Any]],
    objectives: Sequence[str],
    max_prompt_length: int = 512,
    max_response_length: int = 512,
    on_long_prompt: OnLongPrompt = "error",
    progress: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Any:
    """One row of token ids for each unpaired record.

    Args:
        tokenizer: lays out and tokenises.
        records: unpaired records, see ``mopref.llm.data.unpaired_records``.
        objectives: m names of label columns.
        max_prompt_length: in tokens.
        max_response_length: in tokens.
        on_long_prompt: ``"error"``, ``"truncate"`` or ``"drop"``.
        progress: show a progress bar.
        cache_dir: the cache folder in which the rows of a ``datasets.Dataset`` are kept; mopref's own by default.

    Returns:
        Rows with ``prompt_ids``, ``response_ids``, ``labels``: the record's m labels (1 good, 0 bad, −1 not labelled),
        in the order of ``objectives``, and ``objectives``: their m names, one tuple for all rows. A list of
        dicts; of a ``datasets.Dataset`` another one, on the disk.

    Raises:
        ValueError: limits out of range, records that ``validate_unpaired_records`` refuses, a prompt that is too long
            or that the chat template refuses, a text with a token that opens or ends a turn, a response without tokens,
            or no row left; the row is named.
    """
    limits = LengthLimits(max_prompt_length, max_response_length, on_long_prompt)
    names = check_unpaired_objectives(objectives)
    check = partial(validate_unpaired_records, objectives=names)
    form = _Form("unpaired answers", names, check, _response_ids, lambda record: _labels(record, names))
    return _tokenized(tokenizer, _replayable(records), limits, form, progress, cache_dir)


def tokenize_prompts(
    tokenizer: Any,
    prompts: Iterable[str | Sequence[Mapping[str, str]]],
    max_prompt_length: int = 512,
    on_long_prompt: OnLongPrompt = "error",
    cache_dir: str | os.PathLike[str] | None = None,
) -> Any:
    """One row for each prompt, for objectives that sample their own responses.

    Args:
        tokenizer: lays out and tokenises.
        prompts: texts or lists of chat messages, or a ``datasets.Dataset`` with a column ``prompt`` of such.
        max_prompt_length: in tokens.
        on_long_prompt: ``"error"``, ``"truncate"`` or ``"drop"``.
        cache_dir: the cache folder in which the rows of a ``datasets.Dataset`` are kept; mopref's own by default.

    Returns:
        Rows with ``prompt``, as it was given, and ``prompt_ids``: a list, or of a ``datasets.Dataset`` another one.

    Raises:
        ValueError: limits out of range, a single text or dialogue, no prompts, an empty or malformed prompt, one that
            ends with the assistant's message, one that is too long or that the chat template refuses, or no row left;
            the row is named.
    """
    limits = LengthLimits(max_prompt_length, on_long_prompt=on_long_prompt)
    in_table = is_table(prompts) and "prompt" in prompts.column_names  # type: ignore[attr-defined]
    records: Any = prompts.select_columns("prompt") if in_table else map(_record_of_prompt, prompt_list(prompts))  # type: ignore[attr-defined]

    def ids_of(pairs: PairTokenizer, record: Mapping[str, Any], limits: LengthLimits, number: int) -> _Row | None:
        ids = limits.prompt_ids(pairs, record["prompt"], number)
        return None if ids is None else _Row({"prompt_ids": ids}, 0)

    form = _Form("prompts", (), check_prompt_records, ids_of, lambda record: {"prompt": record["prompt"]})
    return _tokenized(tokenizer, records if in_table else list(records), limits, form, cache_dir=cache_dir)


def plain_text_rows(tokenizer: Any, texts: Iterable[str], max_length: int = 512) -> list[dict[str, list[int]]]:
    """One row for each text as it was met in pre-training: no chat template and no end-of-turn token.

    Args:
        tokenizer: a tokenizer of transformers.
        texts: of at least two tokens each, the beginning-of-sequence token counted if the tokenizer adds one.
        max_length: in tokens, at least 2; a longer text is cut on the right.

    Returns:
        Rows with ``prompt_ids``, a text's first token, and ``response_ids``, the others.

    Raises:
        ValueError: no texts, what is no text, a text of fewer than two tokens or with half a surrogate pair, or a
            ``max_length`` below 2; the row is named.
        TypeError: a ``max_length`` that is no whole number, or what is no tokenizer.
    """
    refuse_no_tokenizer(tokenizer)
    max_length = python_value(max_length, int, "max_length")
    if max_length < 2:
        raise ValueError(f"max_length is {max_length}: one token begins and one is predicted, so it must be ≥ 2.")
    if isinstance(texts, str):
        raise ValueError(f"texts is a single text of {len(texts)} characters: give a list of texts.")
    refuse_columns(texts, "texts")
    rows = []
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"row {number} is a {type(text).__name__}: it must be a text.")
        problem = surrogate_problem(text)
        if problem:
            raise ValueError(f"row {number}: the text {problem}")
        ids = [int(index) for index in tokenizer(text)["input_ids"]][:max_length]
        if len(ids) < 2:
            raise ValueError(
                f"row {number}: the text has {len(ids)} of at least 2 tokens, one to begin with and one to predict; "
                "leave the row out."
            )
        rows.append({"prompt_ids": ids[:1], "response_ids": ids[1:]})
    if not rows:
        raise ValueError("there are no texts: give at least one.")
    return rows


def _pair_ids(pairs: PairTokenizer, record: Mapping[str, Any], limits: LengthLimits, row: int) -> _Row | None:
    """The ids of one preference record; ``None`` if its prompt is too long and such rows are dropped."""
    prompt = limits.prompt_ids(pairs, record["prompt"], row)
    if prompt is None:
        return None
    first, second = (limits.response_ids(pairs, record, name, row) for name in ("response_0", "response_1"))
    columns = {"prompt_ids": prompt, "response_0_ids": first.ids, "response_1_ids": second.ids}
    return _Row(columns, first.is_cut + second.is_cut)


def _response_ids(pairs: PairTokenizer, record: Mapping[str, Any], limits: LengthLimits, row: int) -> _Row | None:
    """The ids of a record with one response; ``None`` if its prompt is too long and such rows are dropped."""
    prompt = limits.prompt_ids(pairs, record["prompt"], row)
    if prompt is None:
        return None
    response, is_cut = limits.response_ids(pairs, record, "response", row)
    return _Row({"prompt_ids": prompt, "response_ids": response}, int(is_cut))


def _replayable(records: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    """The records, in a list if they can be gone through only once: they are checked first and then tokenised."""
    refuse_columns(records)
    return records if hasattr(records, "__len__") else list(records)


def _record_of_prompt(prompt: Any) -> dict[str, Any]:
    return {"prompt": prompt}


def _labels(record: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The label columns of a record as those of a row."""
    return {"labels": [int(record[name]) for name in names], "objectives": names}


def _tokenized(
    tokenizer: Any,
    records: Any,
    limits: LengthLimits,
    form: _Form,
    progress: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Any:
    """The rows of records, without those that are dropped: a list, or of a ``datasets.Dataset`` another one.

    Args:
        tokenizer: lays out and tokenises.
        records: of that form, not checked yet.
        limits: of their lengths.
        form: what they are.
        progress: show a progress bar.
        cache_dir: where the rows of a ``datasets.Dataset`` are kept.
    """
    counts = _Counts()
    if is_table(records):
        pairs = PairTokenizer.of(tokenizer)
        key = {"kind": form.kind, "names": list(form.names), "limits": asdict(limits)}

        def make() -> Iterator[dict[str, Any]]:
            form.check(records)
            return _rows(pairs, records, limits, form, counts, progress)

        rows, noted = kept_rows(pairs, records, key, make, lambda: asdict(counts), cache_dir)
        counts = _Counts(**noted)
    else:
        form.check(records)
        rows = list(_rows(PairTokenizer.of(tokenizer), records, limits, form, counts, progress))
    counts.tell(limits)
    return rows


def _rows(
    pairs: PairTokenizer,
    records: Iterable[Mapping[str, Any]],
    limits: LengthLimits,
    form: _Form,
    counts: _Counts,
    progress: bool,
) -> Iterator[dict[str, Any]]:
    """The rows of checked records one after the other, which are counted."""
    for number, record in enumerate(progress_bar(records, "tokenising", enabled=progress, unit="row")):
        row = form.ids_of(pairs, record, limits, number)
        if row is None:
            counts.drops += 1
        else:
            columns = row.columns | form.columns_of(record)
            counts.add(columns, row.cuts)
            yield columns
    if not counts.rows:
        raise ValueError(
            f"all {counts.drops} prompts are longer than max_prompt_length = {limits.max_prompt_length} tokens, so no "
            "row is left: raise the limit or set on_long_prompt to 'truncate'."
        )


def _warn_of_cuts(cuts: int, responses: int, limits: LengthLimits) -> None:
    if cuts:
        warn(
            f"cut {cuts} of {responses} responses to max_response_length = {limits.max_response_length} tokens, so "
            "that they have no end of turn and a model learns to go on: raise the limit or leave such rows out.",
        )
