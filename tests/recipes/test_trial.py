import pytest

from mopref.recipes import RecipeError, trial
from mopref.recipes.trial import try_out
from mopref.training import memory


def test_a_dry_run_says_what_the_run_takes_and_writes_nothing(load, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    lines = []
    report = try_out(load(), lines.append)
    assert "rows        " in report
    assert "steps       6, each of 1 × 4 rows" in report
    assert "GiB" in report
    assert report.endswith("Nothing was written.")
    assert lines[-1] == "Running one batch …"
    assert [path for path in sorted(tmp_path.rglob("*")) if path.suffix != ".yaml"] == before


def test_trackers_and_checkpoints_are_tried_as_in_the_run(load, tmp_path):
    with pytest.raises(ValueError, match="unknown tracker 'nonsense'"):
        try_out(load(training={"trackers": ["nonsense"]}))
    pytest.importorskip("tensorboard")
    try_out(load(training={"trackers": ["tensorboard"]}))
    assert not (tmp_path / "run").exists()


def test_time_is_that_of_all_forwards(load, monkeypatch):
    monkeypatch.setattr(trial, "_forward_seconds", lambda *arguments: 10.0)
    recipe = load(training={"gradient_accumulation_steps": 2})
    # 6 steps of 2 forwards and backward passes.
    assert "time        about 6 min to train" in try_out(recipe)


def test_a_batch_is_run(load, monkeypatch):
    seen = []
    from mopref.objectives import DPO

    losses = DPO.training_losses

    def spy(self, model, batch, preferences):
        seen.append((len(batch.labels), tuple(preferences.shape)))
        return losses(self, model, batch, preferences)

    monkeypatch.setattr(DPO, "training_losses", spy)
    try_out(load())
    assert seen == [(4, (1, 2))]


def test_a_taken_folder_is_told_before_anything_is_loaded(load, tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "prepare", None)
    recipe = load()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("")
    with pytest.raises(RecipeError, match=r"output is .+ holds a run already"):
        try_out(recipe)


def test_memory_is_that_of_weights_gradients_and_the_optimizers_state(load, monkeypatch):
    recipe = load(training={"optimizer": "adamw-fused"})
    seen = []

    def one_gibibyte(name, parameter):
        seen.append(parameter.numel())
        return 2**30 if name == "adamw-fused" else 0

    monkeypatch.setattr(memory, "state_bytes", one_gibibyte)
    report = try_out(recipe)
    assert f"parameters  {sum(seen):,} trained" in report
    assert f"memory      about {len(seen)}.00 GiB a process (base 0.00, adapters with gradients and optimiser" in report
