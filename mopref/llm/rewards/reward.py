"""What a reward is, and the one place where rewards are called and checked.

A reward is any callable ``(prompts, responses) -> (N,)`` numbers, one for each response. Rewards are **maximised**. The
texts may be private or harmful: no message here shows one.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from mopref._repr import OptionsRepr
from mopref.argument_kinds import checks_arguments
from mopref.registry import Registry

__all__ = [
    "REWARDS",
    "NotFiniteRewardError",
    "Prompt",
    "Reward",
    "RewardError",
    "check_counts",
    "compute_rewards",
    "describe_rewards",
    "last_request",
    "reads_tokens",
    "token_reward",
]

# A text, or chat messages with "role" and "content".
Prompt = str | Sequence[Mapping[str, str]]
_Function = TypeVar("_Function", bound=Callable[..., Any])


class RewardError(RuntimeError):
    """A reward raised an error or returned something that is no reward.

    Args:
        message: what happened, without any text.
        name: of the reward.
        row: the first row that is at fault; ``None`` if it is not known, or not one row's doing.

    Attributes:
        prompt: the number of that row's prompt in its batch, where several responses have one; ``None`` if not known.
    """

    prompt: int | None = None

    def __init__(self, message: str, name: str, row: int | None = None) -> None:
        super().__init__(message)
        self.name = name
        self.row = row


class NotFiniteRewardError(RewardError, FloatingPointError):
    """A reward that is NaN or infinite: also a number that went wrong, as a trainer tells them."""


class Reward(OptionsRepr, ABC):
    """A reward with a direction to be read beside its numbers.

    Attributes:
        direction: what a high value means, in one short sentence.
        reads_tokens: whether the reward is called with token ids in place of texts; those of a response hold neither
            its stop token nor padding.
    """

    reads_tokens: bool = False
    direction: str = "higher is better"

    def options(self) -> dict[str, Any]:
        """The options by name: the public attributes but ``direction``, which follows from them."""
        return {name: value for name, value in super().options().items() if name != "direction"}

    @abstractmethod
    def __call__(self, prompts: Sequence[Any], responses: Sequence[Any]) -> Tensor | np.ndarray | Sequence[float]:
        """One number for each of the N responses, shape ``(N,)``."""


REWARDS: Registry[Reward] = Registry("reward", Reward, packages=["mopref.llm.rewards"])


@checks_arguments
def token_reward(function: _Function) -> _Function:
    """Mark a function as a reward of token ids: it is called with N lists of prompt ids and N of response ids.

    Raises:
        TypeError: something that cannot be called, or be marked.

    Example:
        >>> @token_reward
        ... def shortness(prompt_ids, response_ids):
        ...     return [-len(ids) for ids in response_ids]
        >>> reads_tokens(shortness)
        True
    """
    if not callable(function):
        raise TypeError(f"function is of type {type(function).__name__}: give a function.")
    try:
        function.reads_tokens = True  # type: ignore[attr-defined]
    except (AttributeError, TypeError) as error:
        raise TypeError(
            f"{function!r} cannot be marked, since nothing can be written on it: wrap it in a function of your own."
        ) from error
    return function


def reads_tokens(reward: Callable[..., Any]) -> bool:
    """Whether a reward is called with token ids in place of texts.

    Example:
        >>> reads_tokens(lambda prompts, responses: [len(text) for text in responses])
        False
    """
    return bool(getattr(reward, "reads_tokens", False))


@checks_arguments
def describe_rewards(rewards: Mapping[str, Callable[..., Any]]) -> dict[str, str]:
    """What a high value of each reward means; "higher is better" for a reward that does not say.

    Example:
        >>> describe_rewards({"length": len})
        {'length': 'higher is better'}
    """
    return {name: str(getattr(reward, "direction", None) or Reward.direction) for name, reward in rewards.items()}


@checks_arguments
def compute_rewards(
    rewards: Mapping[str, Callable[..., Any]],
    prompts: Sequence[Prompt] | None,
    responses: Sequence[str] | None,
    prompt_ids: Sequence[Sequence[int]] | None,
    response_ids: Sequence[Sequence[int]] | None,
) -> Tensor:
    """Call every reward once on N responses and check what it returns.

    Args:
        rewards: m named rewards. One that reads tokens gets the ids, any other the texts.
        prompts: N texts or lists of chat messages; with ``responses``, ``None`` if every reward reads tokens.
        responses: N texts.
        prompt_ids: N lists of token ids; with ``response_ids``, ``None`` if no reward reads tokens.
        response_ids: N lists of token ids, without stop token and padding.

    Returns:
        The rewards, higher is better, shape ``(N, m)``, float64, on the CPU and without gradient.

    Raises:
        ValueError: there is no reward, the inputs that a reward needs are missing, or they differ in number.
        RewardError: a reward raised an error (which is its cause), or returned anything but N finite numbers of shape
            ``(N,)``. It names the reward and, where one is known to be at fault, the first row, and shows no text.
            A number that is not finite is a ``NotFiniteRewardError``, which is a ``FloatingPointError`` too.

    Example:
        >>> compute_rewards({"letters": lambda prompts, responses: [len(text) for text in responses]},
        ...                 ["Hi", "Bye"], ["Hello", "So long"], None, None)
        tensor([[5.],
                [7.]], dtype=torch.float64)
    """
    if not rewards:
        raise ValueError("there is no reward: give at least one, as name -> callable.")
    texts = {"prompts": prompts, "responses": responses}
    ids = {"prompt_ids": prompt_ids, "response_ids": response_ids}
    check_counts({**texts, **ids})
    columns = []
    for name, reward in rewards.items():
        if not callable(reward):
            raise ValueError(f"reward {name!r} is a {type(reward).__name__}: it must be callable.")
        inputs = _inputs(name, reward, texts, ids)
        columns.append(_column(name, reward, *inputs))
    return torch.from_numpy(np.stack(columns, axis=1))


def last_request(prompt: Prompt) -> str:
    """The text of a prompt; of chat messages the last one by the user, which is what the response answers."""
    if isinstance(prompt, str):
        return prompt
    if not isinstance(prompt, list | tuple) or not prompt or not all(map(_is_message, prompt)):
        raise ValueError(
            f"a prompt is of type {type(prompt).__name__}, and neither a text nor a list of chat messages, one at "
            "least, with role and content: convert it."
        )
    by_user = [message["content"] for message in prompt if message["role"] == "user"]
    return by_user[-1] if by_user else prompt[-1]["content"]


def _is_message(message: Any) -> bool:
    return (
        isinstance(message, Mapping)
        and isinstance(message.get("role"), str)
        and isinstance(message.get("content"), str)
    )


def check_counts(inputs: Mapping[str, Sequence[Any] | None]) -> None:
    """Refuse prompts and responses, by their names, that are not equally many."""
    counts = {name: len(values) for name, values in inputs.items() if values is not None}
    if len(set(counts.values())) > 1:
        *others, last = [f"{number} {name}" for name, number in counts.items()]
        numbers = f"{', '.join(others)} and {last}"
        raise ValueError(f"there are {numbers}: there must be as many prompts as responses, one of each in a row.")


def _inputs(
    name: str,
    reward: Callable[..., Any],
    texts: Mapping[str, Sequence[Any] | None],
    ids: Mapping[str, Sequence[Any] | None],
) -> list[list[Any]]:
    """What a reward is called with: prompts and responses, as texts or as ids."""
    kind, inputs = ("token ids", ids) if reads_tokens(reward) else ("texts", texts)
    missing = [key for key, values in inputs.items() if values is None]
    if missing:
        raise ValueError(
            f"reward {name!r} reads {kind}, but {' and '.join(missing)} were not given: give them, or mark a function "
            "that reads token ids with @token_reward."
        )
    return [[] if values is None else list(values) for values in inputs.values()]


def _column(name: str, reward: Callable[..., Any], prompts: list[Any], responses: list[Any]) -> np.ndarray:
    """One reward's values, checked: float64 of shape ``(N,)``."""
    count = len(responses)
    try:
        output = reward(prompts, responses)
    except Exception as error:
        raise RewardError(
            f"reward {name!r} raised {type(error).__name__} on {count} row{'s' * (count != 1)}: its own error is the "
            "cause above. Call it on fewer of these prompts and responses to see which it fails on (texts are not "
            "shown here: they may be private or harmful).",
            name,
            0 if count == 1 else None,
        ) from error
    values = _as_array(name, output)
    if values.shape != (count,):
        hint = "; drop the last dimension, with squeeze(-1)" if values.shape == (count, 1) and count != 1 else ""
        raise RewardError(
            f"reward {name!r} returned shape {values.shape}: it must return one number for each of the {count} "
            f"responses, shape ({count},){hint}.",
            name,
        )
    if values.dtype.kind not in "biuf":
        raise RewardError(
            f"reward {name!r} returned values of type {values.dtype}: it must return real numbers{_odd_one(values)}.",
            name,
        )
    return _finite(name, values.astype(np.float64))


def _finite(name: str, values: np.ndarray) -> np.ndarray:
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        row = int(bad[0])
        raise NotFiniteRewardError(
            f"reward {name!r} returned {values[row]} for row {row} ({len(bad)} of {len(values)} rows are not finite): "
            "a reward must be a finite number, or the whole step is lost. Call it on that row's prompt and response to "
            "see why, and return a low finite number for a response that cannot be rated.",
            name,
            row,
        )
    return values


def _as_array(name: str, output: Any) -> np.ndarray:
    """What a reward returned as an array of any shape and type; numpy's messages might show a text."""
    if isinstance(output, list | tuple):
        output = [_to_numpy(value) for value in output]
    elif not isinstance(output, Tensor | np.ndarray | int | float | np.generic):
        raise RewardError(
            f"reward {name!r} returned a {type(output).__name__}: it must return a tensor, an array or a list of "
            "numbers, one for each response.",
            name,
        )
    try:
        return np.asarray(_to_numpy(output))
    except (ValueError, TypeError):
        raise RewardError(
            f"reward {name!r} returned rows of different shapes: it must return one number for each response.", name
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
            return f", but row {row} is a {type(value).__name__}"
    return ""
