"""Options of every scalarizer: the defaults that runs depend on, and names that come from a file."""

import json

import pytest
import torch
from scalarizer_inputs import POINTS, RAYS, build, random_batch

from mopref.scalarizers import SCALARIZERS, Linear, Normalized

POINT = [0.0, 0.0]
DEFAULTS = {
    "linear": {},
    "tchebycheff": {"margin": 0.01},
    "modified-tchebycheff": {"epsilon": 1e-3, "margin": 0.01, "convention": "importance"},
    "augmented-tchebycheff": {"rho": 0.01, "margin": 0.01},
    "smooth-tchebycheff": {"mu": 0.01, "margin": 0.01},
    "pbi": {"theta": 5.0, "margin": 0.01, "epsilon": 1e-3, "convention": "importance"},
    "inverted-pbi": {"theta": 0.1, "margin": 0.01},
    "achievement": {"epsilon": 1e-3, "convention": "importance"},
    "augmented-achievement": {"rho": 1e-3, "epsilon": 1e-3, "convention": "importance"},
    "p-norm": {"p": 8.0, "margin": 0.01},
    "cosmos": {"mu": 8.0, "epsilon": 1e-3, "convention": "importance"},
    "hypervolume": {"epsilon": 1e-3},
}


def made(name, **options):
    """A scalarizer without its point, where it may be tracked."""
    given = {POINTS[name]: POINT} if POINTS[name] == "reference_point" else {}
    return SCALARIZERS.make(name, **given, **options)


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_defaults_stay(name):
    """Runs of recipes that leave them out depend on them."""
    assert set(DEFAULTS) == set(POINTS)
    assert repr(made(name)) == repr(made(name, **DEFAULTS[name]))


def test_the_defaults_of_normalized_stay():
    assert SCALARIZERS.find("normalized") is Normalized
    assert repr(Normalized(Linear())) == repr(Normalized(Linear(), window=256, minimum_range=1e-3))


@pytest.mark.parametrize("name", RAYS)
def test_a_convention_read_from_a_file_is_the_same_convention(name):
    """A text that is equal, and not the program's own."""
    losses, preferences, point = random_batch((20, 3), name)
    expected = build(name, point)
    read = build(name.removesuffix(" ray"), point, convention=json.loads('"ray"'))
    assert torch.equal(read(losses, preferences), expected(losses, preferences))
    if expected.target_direction(preferences) is not None:
        assert torch.equal(read.target_direction(preferences), expected.target_direction(preferences))
