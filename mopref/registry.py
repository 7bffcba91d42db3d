"""Registries: objectives, scalarizers and preference samplers by name, the library's own and a user's."""

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, Generic, TypeVar

from mopref.objective import Objective
from mopref.sampler import PreferenceSampler
from mopref.scalarizer import Scalarizer

__all__ = ["OBJECTIVES", "SAMPLERS", "SCALARIZERS", "Registry"]

Part = TypeVar("Part")


class Registry(Mapping[str, type[Part]], Generic[Part]):
    """Name to class, for one kind of part. Built-in classes are imported when they are asked for.

    Args:
        kind: what the parts are called in messages.
        interface: the class they all derive from.
        built_in: name to "module:Class".

    Example:
        >>> from mopref.scalarizers import Linear
        >>> registry = Registry("scalarizer", Scalarizer, {"linear": "mopref.scalarizers:Linear"})
        >>> registry["linear"] is Linear
        True
        >>> @registry.register("mine")
        ... class Mine(Linear):
        ...     pass
        >>> list(registry)
        ['linear', 'mine']
    """

    def __init__(self, kind: str, interface: type[Any], built_in: Mapping[str, str]) -> None:
        self.kind, self.interface = kind, interface
        self._classes: dict[str, str | type[Part]] = dict(built_in)

    def __getitem__(self, name: str) -> type[Part]:
        found = self._classes[name]
        if isinstance(found, str):
            module, _, class_name = found.partition(":")
            found = self._classes[name] = getattr(import_module(module), class_name)
        return found  # type: ignore[return-value]

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)

    def __contains__(self, name: object) -> bool:
        # Mapping's own would import the class.
        return name in self._classes

    def register(self, name: str) -> Callable[[type[Part]], type[Part]]:
        """Decorate a class of one's own, so that ``name`` stands for it.

        Raises:
            ValueError: a name that is taken by another class.
            TypeError: a class that does not derive from the interface.
        """

        def add(part: type[Part]) -> type[Part]:
            if not (isinstance(part, type) and issubclass(part, self.interface)):
                raise TypeError(f"{part!r} is no {self.kind}: derive it from {self.interface.__name__}.")
            if name in self._classes and self[name] is not part:
                raise ValueError(
                    f"the {self.kind} name {name!r} stands for {self[name].__name__} already: choose another."
                )
            self._classes[name] = part
            return part

        return add

    def make(self, part: Part | type[Part] | str, **options: Any) -> Part:
        """An instance as it is, or one made of a class or of a registered name with these options.

        Raises:
            ValueError: an unknown name; the known ones are listed.
            TypeError: something else than an instance, a class or a name.
        """
        if isinstance(part, self.interface):
            return part
        if isinstance(part, str):
            if part not in self:
                raise ValueError(f"unknown {self.kind} {part!r}: choose one of {', '.join(self)}.")
            part = self[part]
        if isinstance(part, type) and issubclass(part, self.interface):
            return part(**options)
        raise TypeError(
            f"{part!r} is no {self.kind}: give an instance or a class derived from {self.interface.__name__}, or a "
            f"registered name ({', '.join(self)})."
        )


SCALARIZERS: Registry[Scalarizer] = Registry(
    "scalarizer",
    Scalarizer,
    {
        "linear": "mopref.scalarizers:Linear",
        "tchebycheff": "mopref.scalarizers:Tchebycheff",
        "modified-tchebycheff": "mopref.scalarizers:ModifiedTchebycheff",
        "augmented-tchebycheff": "mopref.scalarizers:AugmentedTchebycheff",
        "smooth-tchebycheff": "mopref.scalarizers:SmoothTchebycheff",
        "pbi": "mopref.scalarizers:PBI",
        "inverted-pbi": "mopref.scalarizers:InvertedPBI",
        "achievement": "mopref.scalarizers:AchievementScalarizing",
        "augmented-achievement": "mopref.scalarizers:AugmentedAchievementScalarizing",
        "p-norm": "mopref.scalarizers:PNorm",
        "cosmos": "mopref.scalarizers:COSMOS",
        "hypervolume": "mopref.scalarizers:Hypervolume",
    },
)

SAMPLERS: Registry[PreferenceSampler] = Registry(
    "sampler",
    PreferenceSampler,
    {
        "uniform": "mopref.sampler:UniformSampler",
        "dirichlet": "mopref.sampler:DirichletSampler",
        "vertex-biased": "mopref.sampler:VertexBiasedSampler",
        "low-discrepancy": "mopref.sampler:LowDiscrepancySampler",
        "stratified": "mopref.sampler:StratifiedSampler",
        "adaptive": "mopref.adaptive_sampler:AdaptiveSampler",
    },
)

OBJECTIVES: Registry[Objective] = Registry(
    "objective",
    Objective,
    {
        "zdt1": "mopref.objectives:ZDT1",
        "zdt2": "mopref.objectives:ZDT2",
        "zdt3": "mopref.objectives:ZDT3",
        "zdt4": "mopref.objectives:ZDT4",
        "zdt6": "mopref.objectives:ZDT6",
        "scaled-zdt1": "mopref.objectives:ScaledZDT1",
        "dtlz1": "mopref.objectives:DTLZ1",
        "dtlz2": "mopref.objectives:DTLZ2",
        "dtlz3": "mopref.objectives:DTLZ3",
        "dtlz4": "mopref.objectives:DTLZ4",
        "inverted-dtlz1": "mopref.objectives:InvertedDTLZ1",
        "vlmop1": "mopref.objectives:VLMOP1",
        "vlmop2": "mopref.objectives:VLMOP2",
        "vlmop3": "mopref.objectives:VLMOP3",
        "re21": "mopref.objectives:RE21",
        "re24": "mopref.objectives:RE24",
        "re33": "mopref.objectives:RE33",
        "re37": "mopref.objectives:RE37",
    },
)
