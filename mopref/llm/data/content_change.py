"""What a chat template does to the content of a response: most leave it, some trim it, few change it otherwise."""

from typing import NamedTuple

__all__ = ["CONTENT_PROBE", "Trimming", "trimming"]

# Holds what a template could trim, escape or join.
CONTENT_PROBE = "\n \n<Probe> \"one\" & 'two'  {three}\n\n\tFOUR.\n \n"


class Trimming(NamedTuple):
    """The white space that a template takes from a response.

    Attributes:
        left: the characters that go on the left; ``None`` for all white space, empty for none.
        right: those on the right.
    """

    left: str | None = ""
    right: str | None = ""

    def __call__(self, text: str) -> str:
        """The text as the template would put it."""
        return text.lstrip(self.left).rstrip(self.right)


def trimming(content: str) -> Trimming | None:
    r"""How a template that renders ``CONTENT_PROBE`` as this content trims; ``None`` if it changes more than that.

    Example:
        >>> trimming(CONTENT_PROBE.strip())("\n Yes. \n")
        'Yes.'
    """
    kinds = [Trimming(left, right) for left in ("", "\n", None) for right in ("", "\n", None)]
    return next((kind for kind in kinds if kind(CONTENT_PROBE) == content), None)
