"""A ``repr`` that tells with which options a part was made."""

import reprlib
from collections.abc import Iterable
from itertools import islice
from typing import Any

__all__ = ["OptionsRepr", "quoted_list", "short_repr"]


class OptionsRepr:
    """A part whose ``repr`` is the call that makes it again, such as ``ModifiedTchebycheff(ideal=None, epsilon=0.1)``.

    Tensors and arrays show as lists; long lists and texts are shortened.

    Example:
        >>> class Power(OptionsRepr):
        ...     def __init__(self, exponent):
        ...         self.exponent = exponent
        >>> Power(exponent=2.0)
        Power(exponent=2.0)
    """

    def options(self) -> dict[str, Any]:
        """The options by name, as the class takes them: the public attributes, unless a class says otherwise."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={_SHORT.repr(value)}" for name, value in self.options().items())
        return f"{type(self).__name__}({options})"


class _ShortRepr(reprlib.Repr):
    """The standard library's shortened ``repr``, for the kinds of values that options have."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlist = self.maxtuple = self.maxdict = 8
        self.maxstring = self.maxother = 80

    def repr_Tensor(self, value: Any, level: int) -> str:
        is_readable = not value.is_meta and str(value.layout) == "torch.strided"
        return self.repr1(value.tolist(), level) if is_readable else super().repr_instance(value, level)

    def repr_int(self, value: int, level: int) -> str:
        # Python refuses to write one of more than 4,300 digits.
        bits = value.bit_length()
        return super().repr_int(value, level) if bits <= 4_096 else f"<an integer of {bits} bits>"

    def repr_ndarray(self, value: Any, level: int) -> str:
        return self.repr1(value.tolist(), level)

    def repr_dict(self, value: dict[Any, Any], level: int) -> str:
        # In its own order, which may matter: that of rewards is the order of a preference.
        if level <= 0:
            return "{...}"
        items = [
            f"{self.repr1(k, level - 1)}: {self.repr1(v, level - 1)}" for k, v in islice(value.items(), self.maxdict)
        ]
        return "{" + ", ".join(items if len(value) <= self.maxdict else [*items, "..."]) + "}"

    def repr_function(self, value: Any, level: int) -> str:
        return str(value.__qualname__)

    def repr_instance(self, value: Any, level: int) -> str:
        if isinstance(value, OptionsRepr):
            return repr(value)
        if type(value).__repr__ is object.__repr__:
            # Without its address in memory, which differs from run to run.
            return f"{type(value).__name__}(...)"
        return super().repr_instance(value, level)


_SHORT = _ShortRepr()


def short_repr(value: Any) -> str:
    """A value's ``repr`` for a message, in which long lists and texts are shortened."""
    return _SHORT.repr(value)


def quoted_list(names: Iterable[Any], most: int = 20) -> str:
    """Names for a message, each in quotes, of which there may be very many.

    Example:
        >>> quoted_list(["prompt", "answer"]), quoted_list(range(5), most=2)
        ("'prompt', 'answer'", '0, 1 and 3 more')
    """
    known = list(names)
    text = ", ".join(_SHORT.repr(name) for name in known[:most])
    return text if len(known) <= most else f"{text} and {len(known) - most:,} more"
