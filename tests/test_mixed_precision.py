"""The precision that a model runs in: in force within the block, named by one word, compared with what rows record."""

import pytest
import torch
from torch import nn

from mopref.mixed_precision import (
    autocast,
    check_row_precision,
    computed_dtype,
    mixed_precision_in_force,
    precision_name,
    recorded_mixed_precision,
    without_autocast,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("mixed_precision", "dtype"),
    [(None, torch.float32), ("no", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_products_have_the_precision_that_is_said(mixed_precision, dtype):
    layer, x = nn.Linear(4, 4), torch.ones(1, 4)
    with autocast(CPU, mixed_precision):
        assert layer(x).dtype == dtype
    # Also inside another one.
    with torch.autocast("cpu", dtype=torch.bfloat16), autocast(CPU, mixed_precision):
        assert layer(x).dtype == dtype
    assert layer(x).dtype == torch.float32


@pytest.mark.parametrize("mixed_precision", [None, "bf16", "fp16"])
def test_what_is_in_force_is_what_was_asked_for(mixed_precision):
    with torch.autocast("cpu", dtype=torch.bfloat16), autocast(CPU, mixed_precision):
        assert mixed_precision_in_force(CPU) == mixed_precision
    assert mixed_precision_in_force(CPU) is None


@pytest.mark.parametrize("enabled", [False, True])
def test_weights_are_those_of_now_also_inside_another_one(enabled):
    layer, x = nn.Linear(4, 4, bias=False), torch.ones(1, 4)
    values = []
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
        for weight in (1.0, 2.0):
            nn.init.constant_(layer.weight, weight)
            with autocast(CPU, "bf16"):
                values.append(layer(x)[0, 0].item())
    assert values == [4.0, 8.0]


def test_weights_have_gradients_after_a_forward_without():
    layer, x = nn.Linear(4, 4), torch.ones(1, 4)
    with autocast(CPU, "bf16"):
        with torch.no_grad():
            layer(x)
        assert layer(x).requires_grad


@pytest.mark.parametrize("before", [False, True])
def test_none_is_in_force_but_one_of_the_block(before):
    layer, x = nn.Linear(4, 4, bias=False), torch.ones(1, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=before):
        with without_autocast(CPU):
            assert layer(x).dtype == torch.float32
            with torch.autocast("cpu", dtype=torch.bfloat16):
                assert layer(x).dtype == torch.bfloat16
            assert layer(x).dtype == torch.float32
        assert torch.is_autocast_enabled("cpu") is before
        with pytest.raises(KeyError), without_autocast(CPU):
            raise KeyError
        assert torch.is_autocast_enabled("cpu") is before


def test_one_that_is_begun_in_a_block_without_ends_with_its_weights():
    layer, x = nn.Linear(4, 4, bias=False), torch.ones(1, 4)
    values = []
    with without_autocast(CPU):
        for weight in (1.0, 2.0):
            nn.init.constant_(layer.weight, weight)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                values.append(layer(x)[0, 0].item())
    assert values == [4.0, 8.0]


@pytest.mark.parametrize(
    ("own", "mixed_precision", "wanted"),
    [
        (torch.float32, None, torch.float32),
        (torch.float64, None, torch.float64),
        (torch.float16, None, torch.float16),
        (torch.float32, "bf16", torch.bfloat16),
        (torch.float32, "fp16", torch.float16),
        (torch.bfloat16, "fp16", torch.bfloat16),
    ],
)
def test_outputs_have_the_rounding_of_the_coarser_type(own, mixed_precision, wanted):
    with autocast(CPU, mixed_precision):
        assert computed_dtype(torch.zeros(1, dtype=own)) == wanted


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="mixed_precision is 'fp8': choose None, 'bf16' or 'fp16'"):
        autocast(CPU, "fp8")


@pytest.mark.parametrize(
    ("dtype", "mixed_precision", "name"),
    [
        (torch.float32, None, "float32"),
        (torch.float32, "no", "float32"),
        (torch.bfloat16, None, "bfloat16"),
        (torch.float64, None, "float64"),
        (torch.float32, "bf16", "bf16"),
        (torch.bfloat16, "fp16", "fp16"),
    ],
)
def test_names(dtype, mixed_precision, name):
    assert precision_name(nn.Linear(1, 1, dtype=dtype), mixed_precision) == name


def test_the_first_floating_point_parameter_names_it():
    model = nn.Linear(1, 1, dtype=torch.float64)
    model.register_parameter("packed", nn.Parameter(torch.zeros(1, dtype=torch.uint8), requires_grad=False))
    assert precision_name(nn.ModuleList([nn.ParameterList([model.packed]), model]), None) == "float64"


@pytest.mark.parametrize("own", ["float32", "bf16"])
def test_rows_of_this_precision_pass(own):
    check_row_precision([{"reference": 1, "reference_precision": own}, {}], "reference", "reference", own)


def test_rows_that_do_not_say_it_are_in_the_models_own():
    rows = [{"reference": 1}]
    for own in ("float32", "bfloat16"):
        check_row_precision(rows, "reference", "reference", own)
    with pytest.raises(
        ValueError, match="row 0 has a reference that was computed in no mixed precision, but the model"
    ):
        check_row_precision(rows, "reference", "reference", "bf16")


@pytest.mark.parametrize(
    ("recorded", "wanted", "remedy"),
    [
        ("float32", "bf16", "'bf16'"),
        ("bf16", "float32", "None"),
        ("bf16", "fp16", "'fp16'"),
        ("float32", "bfloat16", "No"),
    ],
)
def test_rows_of_another_precision_are_refused(recorded, wanted, remedy):
    rows = [{"reference": 1, "reference_precision": wanted}, {"reference": 1, "reference_precision": recorded}]
    message = f"row 1 has a reference that was computed in {recorded}, but the model runs in {wanted}.*{remedy}"
    with pytest.raises(ValueError, match=message):
        check_row_precision(rows, "reference", "reference", wanted)


def test_what_rows_record():
    assert recorded_mixed_precision([{"reference_precision": "fp16"}], "reference") == "fp16"
    assert recorded_mixed_precision([{"reference_precision": "float32"}], "reference") is None
    assert recorded_mixed_precision([{}], "reference") is None
    assert recorded_mixed_precision([], "reference") is None
