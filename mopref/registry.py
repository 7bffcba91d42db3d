"""Registries: parts by name, the library's own and a user's, for the command line and settings files.

A part registers itself: ``@SCALARIZERS.register("pbi")`` above its class. The registries of language-model parts
(``LOADERS``, ``REWARDS``, ``ALGORITHMS``) stand beside what they register.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from inspect import Parameter, signature
from typing import Any, Generic, TypeVar

from mopref._repr import short_repr
from mopref.objective import Objective
from mopref.sampler import PreferenceSampler
from mopref.scalarizer import Scalarizer

__all__ = ["OBJECTIVES", "SAMPLERS", "SCALARIZERS", "Registry"]

Part = TypeVar("Part")
_Registered = TypeVar("_Registered", bound=Callable[..., Any])


class Registry(Mapping[str, Callable[..., Part]], Generic[Part]):
    """Name to part, for one kind of part: classes that derive from one interface, or functions.

    Args:
        kind: what the parts are called in messages.
        interface: the class they all derive from; ``None`` for a registry of functions.
        packages: imported at the first look-up, so that the parts in them have registered themselves.

    Example:
        >>> from mopref.scalarizers import Linear
        >>> registry = Registry("scalarizer", Scalarizer)
        >>> @registry.register("mine")
        ... class Mine(Linear):
        ...     pass
        >>> list(registry)
        ['mine']
        >>> type(registry.make("mine")).__name__
        'Mine'
    """

    def __init__(self, kind: str, interface: type[Any] | None = None, packages: Sequence[str] = ()) -> None:
        self.kind, self.interface = kind, interface
        self._packages = tuple(packages)
        self._parts: dict[str, Callable[..., Part]] = {}

    def __repr__(self) -> str:
        return f"Registry({self.kind!r}: {', '.join(self)})"

    def __getitem__(self, name: str) -> Callable[..., Part]:
        self._import_packages()
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        self._import_packages()
        return iter(self._parts)

    def __len__(self) -> int:
        self._import_packages()
        return len(self._parts)

    def _import_packages(self) -> None:
        for package in self._packages:
            import_module(package)
            # Only now: after an import that failed the next look-up tries again.
            self._packages = tuple(name for name in self._packages if name != package)

    def register(self, name: str) -> Callable[[_Registered], _Registered]:
        """Decorate a class or function, so that ``name`` stands for it.

        Raises:
            ValueError: an empty name, or one that is taken by another part.
            TypeError: no name (the decorator without its brackets), a class that does not derive from the interface, or
                something that cannot be called.
        """
        if not isinstance(name, str):
            raise TypeError(f'the {self.kind}\'s name is {short_repr(name)}: write @….register("name") above it.')
        if not name.strip():
            raise ValueError(f"the {self.kind}'s name is {name!r}: give one that can be asked for.")

        def add(part: _Registered) -> _Registered:
            if self.interface is not None and not (isinstance(part, type) and issubclass(part, self.interface)):
                raise TypeError(f"{part!r} is no {self.kind}: derive it from {self.interface.__name__}.")
            if not callable(part):
                raise TypeError(f"{part!r} is no {self.kind}: it cannot be called.")
            if self._parts.get(name, part) is not part:
                raise ValueError(
                    f"the {self.kind} name {name!r} stands for {self._parts[name].__name__} already: choose another."
                )
            self._parts[name] = part
            return part

        return add

    def find(self, name: str) -> Callable[..., Part]:
        """The part of that name.

        Raises:
            ValueError: an unknown name; the known ones are listed.
        """
        if not isinstance(name, str) or name not in self:
            raise ValueError(f"unknown {self.kind} {short_repr(name)}: choose one of {', '.join(self)}.")
        return self[name]

    def make(self, part: Part | type[Part] | str, **options: Any) -> Part:
        """An instance as it is, or what a class or the part of a registered name makes of these options.

        Raises:
            ValueError: an unknown name; the known ones are listed.
            TypeError: something else than an instance, a class or a name; or one that needs options which are not
                given, or has none of a name that is.
        """
        if isinstance(part, str):
            function = self.find(part)
            self._check_options(function, f"{self.kind} {part!r}", options)
            return function(**options)
        if self.interface is not None and isinstance(part, self.interface):
            return part  # type: ignore[return-value]
        if self.interface is not None and isinstance(part, type) and issubclass(part, self.interface):
            self._check_options(part, f"{self.kind} {part.__name__}", options)
            instance: Part = part(**options)
            return instance
        expected = (
            "" if self.interface is None else f"an instance or a class derived from {self.interface.__name__}, or "
        )
        raise TypeError(f"{short_repr(part)} is no {self.kind}: give {expected}a registered name ({', '.join(self)}).")

    @staticmethod
    def _check_options(part: Callable[..., Any], what: str, options: Mapping[str, Any]) -> None:
        """Refuse options that a part cannot be made with, in words that say how it can be."""
        try:
            parameters = signature(part).parameters.values()
        except (TypeError, ValueError):  # A part in C, which has no signature.
            return
        own = [p.name for p in parameters if p.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)]
        required = [p.name for p in parameters if p.name in own and p.default is Parameter.empty]
        takes_any = any(p.kind is Parameter.VAR_KEYWORD for p in parameters)
        missing = [name for name in required if name not in options]
        unknown = [name for name in options if name not in own and not takes_any]
        call = f"{part.__name__}({', '.join(f'{name}=…' for name in required)})"
        if missing:
            raise TypeError(f"the {what} needs {', '.join(missing)}: make it yourself, as {call}, and give that.")
        if unknown:
            raise TypeError(
                f"the {what} has no option {', '.join(unknown)}: its options are {', '.join(own) or 'none'}, as in "
                f"{call}."
            )


SCALARIZERS: Registry[Scalarizer] = Registry("scalarizer", Scalarizer, ["mopref.scalarizers"])
SAMPLERS: Registry[PreferenceSampler] = Registry("sampler", PreferenceSampler, ["mopref.samplers"])
OBJECTIVES: Registry[Objective] = Registry("objective", Objective, ["mopref.objectives"])
