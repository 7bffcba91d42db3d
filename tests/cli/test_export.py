"""The command makes what the function makes; the files themselves are looked at in tests/serving/test_exporting.py."""

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
    torch.testing.assert_close(logits_at(AutoModelForCausalLM.from_pretrained(output)), expected, atol=1e-5, rtol=1e-5)
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
    torch.testing.assert_close(logits_at(served), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "content"),
    [
        (["lora-set"], {"shared", "helpful", "harmless", "scales.json"}),
        (["gguf"], {"shared.gguf", "helpful.gguf", "harmless.gguf", "scales.json"}),
        (["lora-grid", "--points", "2"], {"helpful=0.00,harmless=1.00", "helpful=1.00,harmless=0.00"}),
        (
            ["lora-grid", "--preference", PREFERENCE, "--preference", "harmless=1,helpful=0"],
            {"helpful=0.75,harmless=0.25", "helpful=0.00,harmless=1.00"},
        ),
    ],
)
def test_several_loras_lie_in_places_of_their_own(arguments, content, trained, tmp_path, capsys):
    output = tmp_path / "set"
    assert main(["export", str(trained.folder), "--format", *arguments, "--output", str(output)]) == 0
    assert {path.name for path in output.iterdir()} == {*content, "README.md", "front.png"}
    assert f"with its model card: {output / 'README.md'}" in capsys.readouterr().err


def test_what_cannot_be_is_refused_before_a_model_is_loaded(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("mopref.serving.exporting.open_run", None)
    folder, output = str(trained.folder), str(tmp_path / "x")

    def refused(message, *arguments):
        assert main(["export", *arguments]) == 2
        told = capsys.readouterr().err
        assert message in told
        assert "Traceback" not in told

    def exported(*arguments):
        return (folder, "--output", output, *arguments)

    refused("preferences are missing: a lora is fixed at what they say", *exported())
    refused(
        "a lora-set holds all of them: leave them out", *exported("--format", "lora-set", "--preference", PREFERENCE)
    )
    refused("onnx", *exported("--format", "onnx", "--preference", PREFERENCE))
    refused("output", folder, "--preference", PREFERENCE)
    refused("sum", *exported("--preference", "helpful=.7,harmless=.7"))
    refused("brief", *exported("--preference", "helpful=.7,brief=.3"))
    refused("nothing is uploaded: give push_to", *exported("--preference", PREFERENCE, "--public"))
    refused("no repository of the hub", *exported("--preference", PREFERENCE, "--push-to", "a b"))
    refused("holds neither a run nor an adapter", str(tmp_path), "--preference", PREFERENCE, "--output", output)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "mine.txt").write_text("")
    refused("holds files already: choose another folder", *exported("--preference", PREFERENCE))
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["mine.txt"]


def test_a_full_disk_is_a_status_and_a_sentence(trained, tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mopref.conditioning.lora_export.write_together", full)
    assert main(["export", str(trained.folder), "--preference", PREFERENCE, "--output", str(tmp_path / "x")]) == 2
    assert "x could not be written (No space left on device), and nothing is left there" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_is_pushed_is_told_and_its_address_printed(trained, tmp_path, capsys, monkeypatch):
    from mopref.recipes import Upload

    asked = []

    def upload(*arguments, **options):
        asked.append((arguments, options))
        return Upload("hub/ME/model", ["x"])

    monkeypatch.setattr("mopref.serving.exporting.upload", upload)
    arguments = ["--format", "gguf", "--output", str(tmp_path / "x"), "--push-to", "ME/model", "--revision", "v2"]
    assert main(["export", str(trained.folder), *arguments]) == 0
    ((folder, files, repo_id, _, private), options) = asked[0]
    assert (folder, repo_id, private, options) == (tmp_path / "x", "ME/model", True, {"revision": "v2"})
    said = capsys.readouterr()
    assert said.out == "hub/ME/model\n"
    assert f"Uploaded {len(files)} files." in said.err


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


@pytest.mark.parametrize("form", ["merged", "lora", "lora-set", "gguf"])
def test_an_export_goes_into_an_empty_folder_as_into_a_new_one(form, trained, tmp_path, monkeypatch):
    arguments = ["export", str(trained.folder), "--format", form]
    arguments += [] if form in ("lora-set", "gguf") else ["--preference", PREFERENCE]
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert main([*arguments, "--output", "."]) == 0
    assert main([*arguments, "--output", str(tmp_path / "new")]) == 0

    def content(folder):
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    assert content(tmp_path / "empty") == content(tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "new"]
