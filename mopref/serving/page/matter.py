"""What a page shows beside the model: the front of the run, and pairs to ask about."""

from pathlib import Path
from typing import Any, NamedTuple

from mopref.conditioning import PreferenceModel
from mopref.front import Front
from mopref.recipes.run_folder import FRONT
from mopref.serving.page.pairs import Pairs, RunRecords, known_pairs

__all__ = ["PageMatter", "page_matter"]


class PageMatter(NamedTuple):
    """What a page shows beside the model.

    Attributes:
        front: of the run; ``None`` where there is none.
        pairs: what visitors are asked about; ``None`` where there are none.
        no_front: why there is no front, in a sentence.
        no_pairs: why there are no pairs, and what to give.
    """

    front: Front | None = None
    pairs: Pairs | None = None
    no_front: str = "This model's folder has no front: measure one by `mopref evaluate RUN`."
    no_pairs: str = ""


def page_matter(folder: str | Path, model: PreferenceModel, tokenizer: Any, found: RunRecords) -> PageMatter:
    """What a page shows of a folder: its front, and questions from records.

    Args:
        folder: of a run or an adapter.
        model: the conditioned model, which nobody else uses meanwhile.
        tokenizer: its tokenizer.
        found: the records to ask about.
    """
    path, matter = Path(folder) / FRONT, PageMatter()
    if path.is_file():
        front = Front.load(path)
        if front.names == model.objectives:
            matter = matter._replace(front=front)
        else:
            matter = matter._replace(no_front="The front in this model's folder is of other objectives.")
    pairs = known_pairs(model, tokenizer, found.records, found.beta) if len(model.objectives) > 1 else None
    problem = found.problem or "None of the records can be asked about: all are too long, or their answers are alike."
    return matter._replace(pairs=pairs, no_pairs=problem)
