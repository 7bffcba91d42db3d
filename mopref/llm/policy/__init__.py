"""The one door to a language model: log-probabilities, the reference, frozen layers and generation."""

from mopref._faces import public_names as _public_names

from .composed import ComposedPolicy as ComposedPolicy
from .generation import (
    Answer as Answer,
    Response as Response,
    Sampling as Sampling,
    answer_prompts as answer_prompts,
    sample_responses as sample_responses,
    stop_tokens as stop_tokens,
)
from .policy import Policy as Policy

__all__ = _public_names(globals())
