"""How the preferences and rows of a step are shared among processes and forwards."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from mopref._repr import OptionsRepr
from mopref.objective import Objective
from mopref.sampler import PreferenceSampler
from mopref.training.batching import GroupBatchSampler
from mopref.training.config import TrainerConfig

__all__ = ["Draws", "Layout", "make_batches", "step_layout"]


@dataclass(frozen=True)
class Layout:
    """Who works on what in one step: S = processes · forwards shares, of ``rows`` rows each.

    Where S divides the G preferences, a share has G/S of them with all their rows (``is_whole``). Else each share has
    all G, with an equal part of the rows of each.

    Args:
        processes: of the run.
        process: the number of this one.
        forwards: of a step, on each process.
        preferences: G, of a step.
        rows: in one forward.
    """

    processes: int
    process: int
    forwards: int
    preferences: int
    rows: int

    @property
    def shares(self) -> int:
        """S."""
        return self.processes * self.forwards

    @property
    def is_whole(self) -> bool:
        """Whether every preference is on one share alone."""
        return self.preferences % self.shares == 0

    @property
    def groups(self) -> int:
        """The preferences of one share."""
        return self.preferences // self.shares if self.is_whole else self.preferences

    @property
    def drawn_at_once(self) -> int:
        """Shares whose preferences and rows are drawn together: those of one forward, or all where they mix."""
        return self.processes if self.is_whole else self.shares

    @property
    def drawn_groups(self) -> int:
        """The preferences that are drawn together."""
        return self.groups * (self.processes if self.is_whole else 1)

    def share(self, forward: int) -> int:
        """The number of this process's share of a forward; all processes' shares of the first forward come first."""
        return forward * self.processes + self.process

    def rows_of(self, drawn: Sequence[int], share: int) -> tuple[int, ...]:
        """A share's rows of those drawn at once, which are ordered by preference: an equal part of each."""
        if self.is_whole:
            place = share % self.processes
            return tuple(drawn[place * self.rows : (place + 1) * self.rows])
        part, group = self.rows // self.groups, len(drawn) // self.groups
        starts = range(share * part, len(drawn), group)
        return tuple(row for start in starts for row in drawn[start : start + part])

    def preferences_of(self, drawn: Tensor, share: int) -> Tensor:
        """A share's preferences of those drawn at once."""
        if not self.is_whole or self.processes == 1:
            return drawn
        place = share % self.processes
        return drawn[place * self.groups : (place + 1) * self.groups]


def step_layout(
    config: TrainerConfig,
    objective: Objective | None = None,
    has_rows: bool = True,
    processes: int = 1,
    process: int = 0,
) -> Layout:
    """The layout of a run's steps, checked where the objective is given.

    Args:
        config: its settings.
        objective: what is minimised.
        has_rows: whether it is trained on rows.
        processes: how many there are.
        process: the number of this one.

    Raises:
        ValueError: preferences or rows that cannot be shared evenly, or fewer rows of a preference than its losses
            need.
    """
    forwards, preferences = config.gradient_accumulation_steps, config.preferences_per_step
    layout = Layout(processes, process, forwards, preferences, config.batch_size)
    if objective is None:
        return layout
    shares = f"{processes} processes with {forwards} forwards each" if processes > 1 else f"{forwards} forwards"
    if not has_rows and not layout.is_whole:
        raise ValueError(
            f"preferences_per_step is {preferences}, which cannot be shared evenly among {shares}: make it a multiple "
            f"of {layout.shares}."
        )
    if has_rows and layout.shares > 1 and config.batch_size % layout.groups:
        raise ValueError(
            f"batch_size is {config.batch_size} and preferences_per_step {preferences}, of which each of {shares} has "
            f"{layout.groups}: rows cannot be shared "
            f"evenly among them; make batch_size a multiple of {layout.groups}."
        )
    rows = config.batch_size // layout.groups
    if has_rows and rows < objective.fewest_rows:
        raise ValueError(
            f"batch_size is {config.batch_size} and preferences_per_step {preferences}, which is {rows} rows for a "
            f"preference, but {type(objective).__name__} needs {objective.fewest_rows}: give larger batches or fewer "
            "preferences per step."
        )
    return layout


def make_batches(layout: Layout, labelled: Tensor, seed: int | list[int] = 0) -> GroupBatchSampler:
    """What composes the rows that are drawn at once.

    Args:
        layout: of the steps.
        labelled: which row bears on which objective, ``(rows, m)`` bool.
        seed: of its own generator.

    Raises:
        ValueError: rows of which no such batches can be made.
    """
    return GroupBatchSampler(labelled, layout.rows * layout.drawn_at_once, layout.drawn_groups, seed=seed)


class Draws(OptionsRepr):
    """The preferences and the numbers of the rows of each forward; every process draws all, and takes its share.

    Args:
        layout: who has what.
        sampler: draws preferences.
        batches: compose rows; ``None`` where there are none.
    """

    def __init__(self, layout: Layout, sampler: PreferenceSampler, batches: GroupBatchSampler | None) -> None:
        self._layout, self._sampler, self._batches = layout, sampler, batches
        self._drawn: tuple[Tensor, list[int]] | None = None

    def options(self) -> dict[str, Layout]:
        """The layout."""
        return {"layout": self._layout}

    def next(self, forward: int) -> tuple[Tensor, tuple[int, ...]]:
        """Preferences ``(groups, m)`` and rows of a forward of the step.

        Raises:
            ValueError: a forward whose preferences are those of an earlier step on another one.
        """
        layout = self._layout
        if layout.is_whole or forward == 0:
            self._drawn = (
                self._sampler.sample(layout.drawn_groups),
                [] if self._batches is None else next(self._batches),
            )
        elif self._drawn is None:
            raise ValueError(
                f"forward {forward} of a step needs a new draw where forward 0 does not: an objective's updates() has "
                "to return as many updates for each forward of a step."
            )
        preferences, rows = self._drawn
        if layout.is_whole or forward == layout.forwards - 1:
            self._drawn = None
        share = layout.share(forward)
        return layout.preferences_of(preferences, share), layout.rows_of(rows, share)

    def forget(self) -> None:
        """Drop what a step that was broken off had drawn."""
        self._drawn = None
