"""Ten families in every run; all of them, and packed bases where their packages are there, among the slow tests.

The slow test writes the table to the file that the environment variable ``MOPREF_FAMILIES_TABLE`` names, and what the
cells that are not right say to that of ``MOPREF_FAMILIES_DETAILS``.
"""

import os
from pathlib import Path

import pytest

pytest.importorskip("transformers")
pytest.importorskip("peft")

from columns import COLUMNS
from matrix import add_row, line_of, print_matrix, quiet_transformers, read_factories, row_of
from outcomes import Cell
from tiny_models import FAMILIES, PACKED_BASES, PACKED_PACKAGES, SEQUENCE_TO_SEQUENCE

# Dense, mixtures with and without shared experts, packed and transposed weights, recurrence, windows, latent attention.
TEN = (
    "llama",
    "qwen3_moe",
    "gpt2",
    "opt",
    "falcon",
    "mamba2",
    "gemma3_text",
    "deepseek_v3",
    "qwen2_moe",
    "bart",
)
# Of these ten, the cells that are not right, for the reason that their text says.
EXCEPTIONS = {
    # PEFT takes layers of these names for the experts of the mixture.
    "deepseek_v3": {"lora": "refused", "lora_set": "refused"},
    # Its positions count the padding.
    "bart": {"kept": "refused"},
}


def _faults(cells: dict[str, Cell]) -> list[str]:
    return [f"{name} is {cell.text} {cell.place}" for name, cell in cells.items() if cell.is_fault]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    quiet_transformers()


@pytest.mark.parametrize("family", TEN)
def test_ten_families_are_right_or_as_expected(family):
    cells = row_of(FAMILIES[family])
    assert not _faults(cells)
    assert {name: cell.kind for name, cell in cells.items() if cell.kind != "right"} == EXCEPTIONS.get(family, {})


@pytest.mark.parametrize("family", SEQUENCE_TO_SEQUENCE)
def test_encoder_decoders_are_refused_where_a_response_needs_a_probability(family):
    cells = row_of(SEQUENCE_TO_SEQUENCE[family], ("padding", "dpo", "kept", "rlhf"))
    assert {cell.kind for cell in cells.values()} == {"refused"}, cells
    assert "encoder-decoder" in cells["dpo"].text


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_right_or_refused_with_a_reason(family):
    cells = row_of(FAMILIES[family])
    table, details = (os.environ.get(f"MOPREF_FAMILIES_{name}") for name in ("TABLE", "DETAILS"))
    add_row(family, cells, Path(table) if table else None, Path(details) if details else None)
    print(line_of(family, cells))
    assert not _faults(cells)


@pytest.mark.slow
@pytest.mark.parametrize("base", PACKED_BASES)
def test_packed_bases_are_right_or_refused_with_a_reason(base):
    pytest.importorskip(PACKED_PACKAGES[base])
    cells = row_of(PACKED_BASES[base])
    assert not _faults(cells)
    assert [cells[name].kind for name in ("wrap", "save_load", "dpo", "merge")] == ["right"] * 3 + ["refused"]


def test_the_table_grows_by_a_line_for_each_family(tmp_path, capsys):
    table, details = tmp_path / "table.md", tmp_path / "details.md"
    factories = {"llama": FAMILIES["llama"], "nothing": lambda: object().missing}
    assert print_matrix(factories, ["wrap"], table, details) == 1
    assert table.read_text(encoding="utf-8").splitlines() == [
        "| family | wrap |",
        "|---|---|",
        "| llama | · |",
        "| nothing | **F** |",
    ]
    assert capsys.readouterr().out == table.read_text(encoding="utf-8")
    assert "| nothing | wrap | foreign: AttributeError: " in details.read_text(encoding="utf-8")


def test_unknown_families_are_refused_before_the_work():
    assert list(read_factories(())) == list(FAMILIES)
    assert list(read_factories(["t5-encoder-decoder", "llama-nf4"])) == ["t5-encoder-decoder", "llama-nf4"]
    with pytest.raises(ValueError, match="unknown families llamma"):
        read_factories(["llamma"])
    assert len(COLUMNS) == 15
