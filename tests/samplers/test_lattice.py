"""LatticeSampler: passes over a lattice, refusals."""

import itertools

import pytest
import torch

from mopref import simplex_lattice
from mopref.samplers import LatticeSampler


def test_a_pass_over_a_lattice_has_each_point_once():
    sampler = LatticeSampler(3, 30, seed=0)
    points = [tuple(row) for row in simplex_lattice(3, 30).tolist()]
    assert len(points) == 28
    # Draws of 12 and 3 do not end where a pass does.
    drawn = torch.cat([sampler.sample(n) for n in (12, 12, 12, 3, 45)])
    passes = [[tuple(row) for row in part.tolist()] for part in drawn.split(28)]
    assert len(passes) == 3
    for rows in passes:
        assert sorted(rows) == sorted(points)
    for one, other in itertools.combinations(passes, 2):
        assert one != other, "each pass has an order of its own"


def test_a_draw_may_be_larger_than_the_lattice():
    counts = torch.unique(LatticeSampler(2, 5).sample(15), dim=0, return_counts=True)[1]
    assert counts.tolist() == [3] * 5


def test_a_lattice_sampler_takes_any_method(tmp_path, monkeypatch):
    monkeypatch.setenv("MOPREF_CACHE", str(tmp_path))
    drawn = LatticeSampler(3, 7, method="riesz-energy").sample(7)
    assert sorted(drawn.tolist()) == sorted(simplex_lattice(3, 7, "riesz-energy").tolist())


def test_a_lattice_sampler_forgets_its_pass_when_seeded():
    sampler = LatticeSampler(2, 6, seed=1)
    first = sampler.sample(6)
    sampler.sample(2)
    sampler.seed(1)
    assert torch.equal(sampler.sample(6), first)


def test_an_impossible_lattice_raises():
    with pytest.raises(ValueError, match="a lattice of 2 points cannot hold the 3 corners"):
        LatticeSampler(3, 2)
    with pytest.raises(ValueError, match="method is 'riesz': choose"):
        LatticeSampler(3, 10, method="riesz")
