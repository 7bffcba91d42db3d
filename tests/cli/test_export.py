import pytest
import torch

from mopref.cli import main

PREFERENCE = "helpful=0.75,harmless=0.25"


def logits_at(model, **options):
    ids = torch.tensor([[3, 6, 8, 10]])
    with torch.no_grad():
        return model.eval()(input_ids=ids, **options).logits


def test_a_merged_model_is_the_model_at_the_preference(trained, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    output = tmp_path / "merged"
    arguments = ["--format", "merged", "--preference", PREFERENCE, "--output", str(output)]
    assert main(["export", str(trained.folder), *arguments]) == 0
    expected = logits_at(trained.model, preferences=[0.75, 0.25])
    torch.testing.assert_close(logits_at(AutoModelForCausalLM.from_pretrained(output)), expected, atol=1e-4, rtol=1e-4)
    assert AutoTokenizer.from_pretrained(output).chat_template == trained.tokenizer.chat_template


def test_a_merged_model_of_a_quantised_base_is_in_float_when_that_is_asked_for(load, tree, tmp_path, capsys):
    pytest.importorskip("bitsandbytes")
    from transformers import AutoModelForCausalLM

    from mopref.recipes import train

    few = {**tree["training"], "steps": 1, "checkpoint_every": None}
    run = train(load(model={"quantization": "4bit"}, training=few))
    output = tmp_path / "merged"
    arguments = ["export", str(run.folder), "--preference", PREFERENCE, "--output", str(output)]
    assert main([*arguments, "--format", "merged"]) == 2
    assert "merge with dequantize=True (mopref export --dequantize)" in " ".join(capsys.readouterr().err.split())
    assert not output.exists()
    assert main([*arguments, "--format", "lora", "--dequantize"]) == 2
    assert "a lora holds no weights of the base, so leave it out" in capsys.readouterr().err
    assert main([*arguments, "--format", "merged", "--dequantize"]) == 0
    expected = logits_at(run.model, preferences=[0.75, 0.25])
    torch.testing.assert_close(logits_at(AutoModelForCausalLM.from_pretrained(output)), expected, atol=1e-4, rtol=1e-4)


def test_a_lora_is_the_model_at_the_preference(trained, tiny, tmp_path):
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    output = tmp_path / "lora"
    assert main(["export", str(trained.folder), "--preference", PREFERENCE, "--output", str(output)]) == 0
    served = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny / "model"), output)
    expected = logits_at(trained.model, preferences=[0.75, 0.25])
    torch.testing.assert_close(logits_at(served), expected, atol=1e-4, rtol=1e-4)


def test_a_set_has_a_lora_for_each_objective(trained, tmp_path):
    output = tmp_path / "set"
    assert main(["export", str(trained.folder), "--format", "lora-set", "--output", str(output)]) == 0
    assert {path.name for path in output.iterdir()} == {"shared", "helpful", "harmless"}


def test_what_cannot_be_is_refused_before_a_model_is_loaded(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("mopref.cli.export.open_run", None)
    folder, output = str(trained.folder), str(tmp_path / "x")
    assert main(["export", folder, "--output", output]) == 2
    assert "--preference is missing: a lora is fixed at one" in capsys.readouterr().err
    assert main(["export", folder, "--format", "lora-set", "--preference", PREFERENCE, "--output", output]) == 2
    assert "a lora-set holds all preferences, so leave it out" in capsys.readouterr().err
    assert main(["export", folder, "--format", "gguf", "--preference", PREFERENCE, "--output", output]) == 2
    assert "gguf" in capsys.readouterr().err
    assert main(["export", folder, "--preference", PREFERENCE]) == 2
    assert "output" in capsys.readouterr().err
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "mine.txt").write_text("")
    assert main(["export", folder, "--preference", PREFERENCE, "--output", output]) == 2
    assert "holds files already: choose another folder" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("form", ["merged", "lora-set"])
def test_an_export_that_fails_half_way_leaves_nothing(form, there, trained, tmp_path, monkeypatch):
    output = tmp_path / "out"
    if there:
        output.mkdir()
    tokenizer, inside = type(trained.tokenizer), []

    def fail(*arguments, **options):
        inside.append(sorted(path.name for path in tmp_path.rglob("*")))
        raise RuntimeError("half way")

    monkeypatch.setattr(tokenizer, "save_pretrained", fail)
    monkeypatch.setattr("mopref.conditioning.lora_export.write_together", fail)
    arguments = ["--preference", PREFERENCE] if form == "merged" else []
    assert main(["export", str(trained.folder), "--format", form, *arguments, "--output", str(output)]) != 0
    assert [path.name for path in tmp_path.iterdir()] == (["out"] if there else [])
    assert not there or not list(output.iterdir())
    assert len(inside) == 1
    assert ("model.safetensors" in inside[0]) == (form == "merged")


@pytest.mark.parametrize("form", ["merged", "lora", "lora-set"])
def test_an_export_goes_into_an_empty_folder_as_into_a_new_one(form, trained, tmp_path, monkeypatch):
    arguments = ["export", str(trained.folder), "--format", form]
    arguments += [] if form == "lora-set" else ["--preference", PREFERENCE]
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert main([*arguments, "--output", "."]) == 0
    assert main([*arguments, "--output", str(tmp_path / "new")]) == 0

    def content(folder):
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    assert content(tmp_path / "empty") == content(tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "new"]
