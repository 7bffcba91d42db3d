"""Gaps with their intervals: each where it is, and filled only where its interval excludes 0."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.image import imread

from mopref.plotting import plot_gaps

GAPS = {"soup": (-0.2, -0.3, -0.1), "prompt": (0.05, -0.02, 0.1), "one run": (0.4, float("nan"), float("nan"))}


def test_writes_a_picture(tmp_path):
    path = tmp_path / "new" / "gaps.png"
    plot_gaps(GAPS, path, "hypervolume less ours", 0.9)
    picture = imread(path)
    assert min(picture.shape[:2]) > 300
    assert picture[..., :3].std() > 0.01


def test_every_gap_is_drawn_at_its_place_with_its_interval():
    axes = plot_gaps(GAPS, label="difference", level=0.9).axes[0]
    points = [scatter.get_offsets()[0].tolist() for scatter in axes.collections]
    assert points == [[-0.2, 0], [0.05, 1], [0.4, 2]]
    faces = [to_hex(scatter.get_facecolors()[0]) for scatter in axes.collections]
    assert [face == "#ffffff" for face in faces] == [False, True, True]
    lines = [line.get_xdata() for line in axes.lines if len(set(line.get_ydata())) == 1]
    assert [list(map(float, line)) for line in lines] == [[-0.3, -0.1], [-0.02, 0.1]]
    assert [text.get_text() for text in axes.get_yticklabels()] == list(GAPS)
    low, high = axes.get_ylim()
    assert low > high
    assert axes.get_xlabel() == "difference\nline: interval, 90 %"


def test_a_legend_says_what_filled_and_hollow_mean():
    (legend,) = plot_gaps(GAPS).legends
    told = {
        text.get_text(): to_hex(handle.get_markerfacecolor())
        for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True)
    }
    filled, hollow = told
    assert filled == "filled: the interval excludes 0"
    assert hollow.startswith("hollow: it holds 0, or is not known")
    assert (told[hollow], told[filled] == "#ffffff") == ("#ffffff", False)


def test_a_title_stands_above_it():
    assert plot_gaps(GAPS, title="Means over seeds 0, 1").axes[0].get_title() == "Means over seeds 0, 1"
    assert plot_gaps(GAPS).axes[0].get_title() == ""


@pytest.mark.parametrize(
    ("gaps", "message"),
    [
        ({}, "gaps is empty"),
        ({"a": (1.0, 2.0)}, r"give \(gap, low, high\)"),
        ({"a": (float("nan"), 0.0, 1.0)}, "the gap finite"),
        ({"a": (0.0, 1.0, -1.0)}, "two finite bounds"),
        ({"a": (0.0, float("nan"), 1.0)}, "two finite bounds"),
        ({"a": (0.0, -np.inf, 1.0)}, "two finite bounds"),
    ],
)
def test_what_is_no_gap_is_refused(gaps, message):
    with pytest.raises(ValueError, match=message):
        plot_gaps(gaps)
