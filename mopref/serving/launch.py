"""A server, made of a folder and what its operator allows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from mopref._checked_files import is_readable_text
from mopref.argument_kinds import checked_fields
from mopref.llm.data.chat_template import PairTokenizer
from mopref.serving.guard import Guard
from mopref.serving.listening import is_loopback
from mopref.serving.opening import Opened, open_model, recorded_objectives
from mopref.serving.page.gate import is_of_the_page
from mopref.serving.page.matter import PageMatter, page_matter
from mopref.serving.page.pairs import RunRecords, read_pairs, run_records
from mopref.serving.reception import Reception, longest_context
from mopref.serving.terms import Terms
from mopref.serving.worker import Worker

__all__ = ["Server", "ServerSettings", "make_server", "serve_model"]

# What a setting is called on the command line.
_FLAGS = {
    "rows": "--max-batch",
    "waiting": "--max-queue",
    "new_tokens": "--max-tokens",
    "context": "--max-context",
    "seconds": "--deadline",
}
# By which names a server on loopback is asked.
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class ServerSettings:
    """What an operator sets.

    Args:
        rows: requests that are answered at once.
        waiting: requests that wait beside them; others are told that the server is busy.
        new_tokens: the most tokens of an answer.
        context: the most tokens of a prompt and its answer; fewer where the model was made for fewer.
        seconds: the most that a request takes, waiting included.
        body_bytes: the most bytes of a request.
        minimums: the least weight of some objectives.
        presets: preferences by name.
        name: the model's name; that of the folder by default.
        token: what requests must bear.
        page: whether there is a page for browsers, too.
        pairs: a file of pairs that the page asks about; those of the run by default.

    Raises:
        ValueError: a value out of its range, named.
    """

    rows: int = 32
    waiting: int = 128
    new_tokens: int = 512
    context: int = 4096
    seconds: float = 300.0
    body_bytes: int = 256 * 1024
    minimums: Mapping[str, float] = field(default_factory=dict)
    presets: Mapping[str, Any] = field(default_factory=dict)
    name: str | None = None
    token: str | None = None
    page: bool = False
    pairs: str | None = None

    def __post_init__(self) -> None:
        checked_fields(self)
        for name in ("rows", "waiting", "new_tokens", "context", "body_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1{_of_flag(name)}.")
        if not (self.seconds > 0 and math.isfinite(self.seconds)):
            raise ValueError(f"seconds is {self.seconds}: it must be positive and finite{_of_flag('seconds')}.")
        if self.name is not None and not (self.name.strip() and is_readable_text(self.name)):
            raise ValueError(f"name is {self.name!r:.80}: give one line of text, or none for the folder's name.")
        if self.pairs is not None and not self.page:
            raise ValueError(f"pairs are in {self.pairs!r}, and there is no page that asks about them: set page, too.")

    def terms(self, name: str, objectives: tuple[str, ...]) -> Terms:
        """What may be asked of a model with these objectives."""
        return Terms(self.name or name, objectives, self.context, self.new_tokens, self.minimums, self.presets)


def _of_flag(name: str) -> str:
    return f" ({_FLAGS[name]} of mopref serve)" if name in _FLAGS else ""


class Server(NamedTuple):
    """An application, and what it is made of."""

    app: Any
    worker: Worker
    terms: Terms


def make_server(folder: str | Path, settings: ServerSettings, host: str = "127.0.0.1") -> Server:
    """The server of a run's or an adapter's folder.

    Args:
        folder: that of a run or of an adapter.
        settings: what its operator allows.
        host: the address that it will listen at; on loopback it is asked by that name only.

    Raises:
        ValueError, FileNotFoundError: as ``open_model``, and settings that do not fit the model. They are told before
            it is loaded.
    """
    objectives, name = recorded_objectives(folder), Path(folder).resolve().name
    settings.terms(name, objectives)
    if not settings.page:
        return serve_model(open_model(folder), settings, name, host)
    found = run_records(folder) if settings.pairs is None else RunRecords(read_pairs(settings.pairs, objectives), 0.1)
    opened = open_model(folder)
    return serve_model(opened, settings, name, host, page_matter(folder, opened.model, opened.tokenizer, found))


def serve_model(
    opened: Opened,
    settings: ServerSettings,
    name: str = "mopref",
    host: str = "127.0.0.1",
    matter: PageMatter | None = None,
) -> Server:
    """The server of a model in memory; see :func:`make_server`. ``matter`` is what its page shows beside the model."""
    from mopref.serving.api import make_app

    terms = settings.terms(name, opened.model.objectives)
    terms = replace(terms, context=longest_context(opened.model, settings.context))
    if settings.minimums and opened.model.preference_convention == "ray":
        raise ValueError(
            "minimums are set for a model whose preferences say a direction of losses ('ray') and not what is "
            "important, so that a larger weight may be a worse value: train it by importance, or set none."
        )
    reception = Reception(opened.model, PairTokenizer.of(opened.tokenizer), terms)
    worker = Worker(opened.model, reception.sampling, settings.rows, settings.waiting)
    app: Any = make_app(worker, reception, settings.seconds)
    if settings.page:
        from mopref.serving.page.mounting import mount_page

        app = mount_page(app, worker, reception, settings.seconds, matter or PageMatter())
    hosts = _LOCAL_NAMES if is_loopback(host) else None
    guard = Guard(
        app, settings.token, hosts, settings.body_bytes, for_browsers=is_of_the_page if settings.page else None
    )
    return Server(guard, worker, terms)
