"""Registries: parts by name, made with options, and errors that name what there is."""

import sys

import pytest

from mopref import Scalarizer, UniformSampler
from mopref.gradients import GRADIENT_WEIGHTINGS
from mopref.registry import OBJECTIVES, SAMPLERS, SCALARIZERS, Registry
from mopref.scalarizers import Linear, Tchebycheff


class Doubled(Scalarizer):
    """Twice the weighted sum."""

    def scalarize(self, losses, preferences):
        return 2 * (preferences * losses).sum(dim=-1)


@pytest.mark.parametrize(
    "registry", [OBJECTIVES, SAMPLERS, SCALARIZERS, GRADIENT_WEIGHTINGS], ids=lambda registry: registry.kind
)
def test_every_built_in_name_stands_for_a_class_of_its_kind(registry):
    assert len(registry) >= 3
    for name, part in registry.items():
        assert issubclass(part, registry.interface), name
        assert registry[name] is part


def test_a_name_is_made_with_options():
    made = SCALARIZERS.make("tchebycheff", ideal=[0.0, 1.0])
    assert isinstance(made, Tchebycheff)
    assert made.ideal_point.tolist() == [0.0, 1.0]
    assert SAMPLERS.make(UniformSampler, num_objectives=3).num_objectives == 3
    scalarizer = Doubled()
    assert SCALARIZERS.make(scalarizer) is scalarizer


def test_errors_name_what_was_given_and_what_there_is():
    with pytest.raises(ValueError, match=r"unknown scalarizer 'lineal': choose one of .*linear, .*tchebycheff"):
        SCALARIZERS.make("lineal")
    with pytest.raises(TypeError, match="is no scalarizer: give an instance or a class derived from Scalarizer"):
        SCALARIZERS.make(UniformSampler)
    with pytest.raises(TypeError, match="3 is no sampler"):
        SAMPLERS.make(3)
    registry = Registry("scalarizer", Scalarizer)
    registry.register("linear")(Linear)
    with pytest.raises(ValueError, match="'linear' stands for Linear already"):
        registry.register("linear")(Doubled)
    with pytest.raises(TypeError, match="derive it from Scalarizer"):
        registry.register("mine")(UniformSampler)
    assert list(registry) == ["linear"]
    # The same class again is no conflict: a module may be imported twice.
    assert registry.register("linear")(Linear) is Linear


def test_packages_are_imported_when_a_part_is_asked_for(tmp_path, monkeypatch):
    (tmp_path / "package_of_parts.py").write_text(
        "from test_registry_target import registry\nfrom mopref.scalarizers import Linear\n"
        "registry.register('late')(Linear)\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry("scalarizer", Scalarizer, ["package_of_parts"])
    monkeypatch.setitem(sys.modules, "test_registry_target", type("Target", (), {"registry": registry}))
    assert "package_of_parts" not in sys.modules
    assert list(registry) == ["late"]
    assert registry["late"] is Linear
    monkeypatch.delitem(sys.modules, "package_of_parts")


def test_a_package_that_is_not_there_is_missed_at_the_first_look_up():
    registry = Registry("scalarizer", Scalarizer, ["mopref.no_such_module"])
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        registry["broken"]


def test_a_decorator_without_its_name_is_refused():
    with pytest.raises(TypeError, match=r"the scalarizer's name is .*Forgetful.*: write @….register"):

        @SCALARIZERS.register
        class Forgetful(Scalarizer):
            def scalarize(self, losses, preferences):
                return losses.sum(dim=-1)

    with pytest.raises(ValueError, match="the scalarizer's name is '': give one"):
        SCALARIZERS.register("")


@pytest.mark.parametrize(
    ("registry", "name", "options", "message"),
    [
        (
            SCALARIZERS,
            "hypervolume",
            {},
            r"scalarizer 'hypervolume' needs reference_point: make it yourself, as Hypervol",
        ),
        (SCALARIZERS, "achievement", {}, r"scalarizer 'achievement' needs .*: make it yourself, as Achievement"),
        (SCALARIZERS, "augmented-achievement", {}, r"scalarizer 'augmented-achievement' needs "),
        (SCALARIZERS, "normalized", {}, r"scalarizer 'normalized' needs scalarizer: make it yourself, as Normalized\("),
        (OBJECTIVES, "dpo", {}, r"objective 'dpo' needs names: make it yourself, as DPO\(names=…\), and give that"),
        (OBJECTIVES, "rlhf", {}, r"objective 'rlhf' needs rewards: make it yourself, as RLHF\(rewards=…\)"),
        (
            SAMPLERS,
            "lattice",
            {"num_objectives": 2},
            r"'lattice' needs num_points: .* LatticeSampler\(num_objectives=…, num_",
        ),
        (
            SCALARIZERS,
            "tchebycheff",
            {"idael": [0.0]},
            "'tchebycheff' has no option idael: its options are ideal, margin",
        ),
        (SCALARIZERS, Doubled, {"factor": 2}, "scalarizer Doubled has no option factor: its options are none"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_part_that_cannot_be_made_so_says_how_it_can(registry, name, options, message):
    with pytest.raises(TypeError, match=message) as error:
        registry.make(name, **options)
    assert "__init__()" not in str(error.value)


def test_every_registered_name_is_made_or_says_what_it_needs():
    """Without options: an instance, or words of this library."""
    for registry in (OBJECTIVES, SCALARIZERS, GRADIENT_WEIGHTINGS):
        for name in registry:
            try:
                assert isinstance(registry.make(name), registry.interface)
            except TypeError as error:
                assert f"{registry.kind} {name!r} needs " in str(error)  # noqa: PT017


def test_an_error_of_the_parts_own_is_not_hidden():
    class Broken(Linear):
        def __init__(self):
            raise TypeError("its own words")

    with pytest.raises(TypeError, match="its own words"):
        SCALARIZERS.make(Broken)


def test_functions_with_any_options_and_without_a_signature():
    registry = Registry("function")
    registry.register("any")(lambda **options: options)
    registry.register("type")(type)
    assert registry.make("any", a=1) == {"a": 1}
    with pytest.raises(TypeError, match="type"):
        registry.make("type")
