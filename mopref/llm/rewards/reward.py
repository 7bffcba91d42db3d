"""What a reward is, and the one place where rewards are called and checked.

A reward is any callable ``(prompts, responses) -> (N,)`` numbers, one for each response. Rewards are **maximised**. The
texts may be private or harmful: no message here shows one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "Prompt",
    "Reward",
    "RewardError",
    "compute_rewards",
    "describe_rewards",
    "last_request",
    "token_reward",
]

# A text, or chat messages with "role" and "content".
Prompt = str | Sequence[Mapping[str, str]]
_Function = TypeVar("_Function", bound=Callable[..., Any])


class RewardError(RuntimeError):
    """A reward raised an error or returned something that is no reward. ``name`` is its name.

    ``row`` is the first row that is at fault, None if it is not one row's doing.
    """

    def __init__(self, message: str, name: str, row: int | None = None) -> None:
        super().__init__(message)
        self.name = name
        self.row = row


class Reward(ABC):
    """A reward with a direction to be read beside its numbers.

    ``direction`` says in one short sentence what a high value means. ``reads_tokens`` says that the reward is called
    with token ids in place of texts; those of a response hold neither its stop token nor padding.
    """

    reads_tokens: bool = False
    direction: str = "higher is better"

    @abstractmethod
    def __call__(self, prompts: Sequence[Any], responses: Sequence[Any]) -> Tensor | np.ndarray | Sequence[float]:
        """Return one number for each of the N responses, shape ``(N,)``."""


def token_reward(function: _Function) -> _Function:
    """Mark a function as a reward of token ids: it is called with N lists of prompt ids and N of response ids.

    Example:
        >>> @token_reward
        ... def shortness(prompt_ids, response_ids):
        ...     return [-len(ids) for ids in response_ids]
        >>> shortness.reads_tokens
        True
    """
    function.reads_tokens = True  # type: ignore[attr-defined]
    return function


def describe_rewards(rewards: Mapping[str, Callable[..., Any]]) -> dict[str, str]:
    """Return what a high value of each reward means; "higher is better" for a reward that does not say.

    Example:
        >>> describe_rewards({"length": len})
        {'length': 'higher is better'}
    """
    return {name: str(getattr(reward, "direction", None) or Reward.direction) for name, reward in rewards.items()}


def compute_rewards(
    rewards: Mapping[str, Callable[..., Any]],
    prompts: Sequence[Prompt] | None,
    responses: Sequence[str] | None,
    prompt_ids: Sequence[Sequence[int]] | None,
    response_ids: Sequence[Sequence[int]] | None,
) -> Tensor:
    """Call every reward on N responses and check what it returns.

    Args:
        rewards: m named rewards. One with ``reads_tokens`` gets the ids, any other the texts.
        prompts: N texts or lists of chat messages; with ``responses``, None if every reward reads tokens.
        responses: N texts.
        prompt_ids: N lists of token ids; with ``response_ids``, None if no reward reads tokens.
        response_ids: N lists of token ids, without stop token and padding.

    Returns:
        The rewards, higher is better, shape ``(N, m)``, float64, on the CPU and without gradient.

    Raises:
        ValueError: There is no reward, the inputs that a reward needs are missing, or they differ in number.
        RewardError: A reward raised an error (which is its cause), or returned anything but N finite numbers of shape
            ``(N,)``. It names the reward and, where one is at fault, the first row, and shows no text.

    Example:
        >>> compute_rewards({"letters": lambda prompts, responses: [len(text) for text in responses]},
        ...                 ["Hi", "Bye"], ["Hello", "So long"], None, None)
        tensor([[5.],
                [7.]], dtype=torch.float64)
    """
    if not rewards:
        raise ValueError("there is no reward; give at least one, as name -> callable")
    inputs = {
        "prompts": prompts,
        "responses": responses,
        "prompt_ids": prompt_ids,
        "response_ids": response_ids,
    }
    counts = {name: len(values) for name, values in inputs.items() if values is not None}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{number} {name}" for name, number in counts.items())
        raise ValueError(f"there must be as many prompts as responses, one of each in a row, but got {listed}")
    columns = []
    for name, reward in rewards.items():
        if not callable(reward):
            raise ValueError(f"reward {name!r} is a {type(reward).__name__}, but must be callable")
        first, second = ("prompt_ids", "response_ids") if _reads_tokens(reward) else ("prompts", "responses")
        missing = [key for key in (first, second) if inputs[key] is None]
        if missing:
            kind = "token ids" if _reads_tokens(reward) else "texts"
            raise ValueError(
                f"reward {name!r} reads {kind}, but {' and '.join(missing)} were not given; give them, or mark a "
                "function that reads token ids with @token_reward"
            )
        columns.append(_column(name, reward, list(inputs[first] or ()), list(inputs[second] or ())))
    return torch.from_numpy(np.stack(columns, axis=1))


def last_request(prompt: Prompt) -> str:
    """Return the text of a prompt; of chat messages the last one by the user, which is what the response answers."""
    if isinstance(prompt, str):
        return prompt
    by_user = [message["content"] for message in prompt if message["role"] == "user"]
    return by_user[-1] if by_user else prompt[-1]["content"]


def _reads_tokens(reward: Callable[..., Any]) -> bool:
    return bool(getattr(reward, "reads_tokens", False))


def _column(name: str, reward: Callable[..., Any], prompts: list[Any], responses: list[Any]) -> np.ndarray:
    """Return one reward's values, checked: float64 of shape ``(N,)``."""
    try:
        returned = reward(prompts, responses)
    except Exception as error:
        row, place = _failing_row(reward, prompts, responses)
        raise RewardError(
            f"reward {name!r} raised {type(error).__name__} {place}. Its own error is the cause above; call the reward "
            "on that row's prompt and response to see why (texts are not shown here: they may be private or harmful)",
            name,
            row,
        ) from error
    values = _as_array(name, returned)
    count = len(responses)
    if values.shape != (count,):
        hint = "; drop the last dimension, with squeeze(-1)" if values.shape == (count, 1) and count != 1 else ""
        raise RewardError(
            f"reward {name!r} returned shape {values.shape}, but must return one number for each of the {count} "
            f"responses, shape ({count},){hint}",
            name,
        )
    if values.dtype.kind not in "biuf":
        raise RewardError(
            f"reward {name!r} returned values of type {values.dtype}, but must return real numbers{_odd_one(values)}",
            name,
        )
    values = values.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        row = int(bad[0])
        raise RewardError(
            f"reward {name!r} returned {values[row]} for row {row} ({len(bad)} of {count} rows are not finite); a "
            "reward must be a finite number, or the whole step is lost. Call it on that row's prompt and response to "
            "see why, and return a low finite number for a response that cannot be rated",
            name,
            row,
        )
    return values


def _as_array(name: str, returned: Any) -> np.ndarray:
    """Return what a reward returned as an array of any shape and type; numpy's messages might show a text."""
    if isinstance(returned, list | tuple):
        returned = [_to_numpy(value) for value in returned]
    elif not isinstance(returned, Tensor | np.ndarray | int | float | np.generic):
        raise RewardError(
            f"reward {name!r} returned a {type(returned).__name__}, but must return a tensor, an array or a list of "
            "numbers, one for each response",
            name,
        )
    try:
        return np.asarray(_to_numpy(returned))
    except (ValueError, TypeError):
        raise RewardError(
            f"reward {name!r} returned rows of different shapes, but must return one number for each response", name
        ) from None


def _to_numpy(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    value = value.detach().cpu()
    # numpy does not know bfloat16.
    return (value.double() if value.is_floating_point() else value).numpy()


def _odd_one(values: np.ndarray) -> str:
    for row, value in enumerate(values):
        if not isinstance(value, int | float | np.number):
            return f": row {row} is a {type(value).__name__}"
    return ""


def _failing_row(reward: Callable[..., Any], prompts: list[Any], responses: list[Any]) -> tuple[int | None, str]:
    """Return the first row on which a reward fails alone, None if there is none, and a sentence's end that says so."""

    def fails(row: int) -> bool:
        try:
            reward([prompts[row]], [responses[row]])
        except Exception:
            return True
        return False

    count = len(responses)
    first = next((row for row in range(count) if fails(row)), None)
    if first is None:
        return None, f"on {count} rows, though on none of them alone, so it depends on the rows being together"
    if first == 0 and count > 1 and fails(count - 1):
        return 0, f"on row 0 and on row {count - 1}, so probably on each of the {count} rows"
    return first, f"on row {first} of {count} (the first that fails alone, counted from 0)"
