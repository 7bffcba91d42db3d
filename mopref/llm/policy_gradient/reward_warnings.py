"""RewardWarnings: one reward that drowns the others, and one that an outlier has flattened, are told while sampling."""

from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor

from mopref._warning import warn

__all__ = ["RewardWarnings"]

# So many rollouts are looked back on: the spread of a single one may be anything.
_ROLLOUTS = 8
# Where one reward's spread is 100 times another's, the other one counts as much from a weight of .99 on only: all but
# the last hundredth of the preferences is about the first.
_RATIO = 100.0


class RewardWarnings:
    """Watches the spread of m rewards as they enter the advantages. Nothing of it goes into the training.

    Args:
        names: of the rewards.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._deviations: deque[Tensor] = deque(maxlen=_ROLLOUTS)
        self._said: set[str] = set()

    def see(self, rewards: Tensor, scales: Tensor, normalization: str | None) -> None:
        """See the rewards ``(N, m)`` of one rollout, in their own units.

        Args:
            rewards: ``(N, m)``.
            scales: what they are divided by, ``(m,)``.
            normalization: "running", where those are the running deviations; "group", where nothing can go wrong, since
                each group's advantages are divided by their own spread; or ``None``.

        Warns:
            UserWarning: an outlier has set the scale that a reward is divided by, or one reward's spread is so much
                larger than another's that it drowns it; once each.
        """
        if len(rewards) < 2 or normalization == "group":
            return
        self._deviations.append(rewards.std(dim=0))
        if len(self._deviations) < _ROLLOUTS:
            return
        # A reward that does not vary in most rollouts is a rare one, or has another fault.
        usual = torch.stack(list(self._deviations)).median(dim=0).values
        flattened = (usual > 0) & (scales > _RATIO * usual) & (normalization == "running")
        for index in flattened.nonzero().flatten().tolist():
            self._say(
                f"outlier {self._names[index]}",
                f"the reward {self._names[index]!r} is divided by {scales[index].item():.3g}, the standard deviation "
                f"of all its values so far, but those of the last {_ROLLOUTS} rollouts usually deviate by "
                f"{usual[index].item():.3g}: an outlier has flattened it, and its weight in λ does almost nothing. "
                "Bound the reward's values (clip or squash them), and start again.",
            )
        spreads = usual / scales
        known = (spreads > 0) & ~flattened
        if known.sum() < 2:
            return
        low, high = int(spreads.where(known, torch.inf).argmin()), int(spreads.where(known, 0.0).argmax())
        if spreads[high] > _RATIO * spreads[low]:
            self._say(
                "drowning",
                f"the reward {self._names[high]!r} varies {(spreads[high] / spreads[low]).item():.3g} times as much as "
                f"{self._names[low]!r} (standard deviations {usual[high].item():.3g} and {usual[low].item():.3g}), so "
                "that it drowns it at almost every λ: use normalization='running', or bring the rewards to one scale.",
            )

    def _say(self, kind: str, message: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            warn(message)
