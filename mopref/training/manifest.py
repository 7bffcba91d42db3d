"""The manifest of a checkpoint: what wrote it, in which run, and the checksums of its files."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mopref._checked_files import file_digest, parsed_description, regular_file
from mopref.training.provenance import made_with

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST",
    "REMEDY",
    "check_files",
    "damage",
    "fault_of",
    "none_is_whole",
    "read_manifest",
    "unreadable_told",
    "write_manifest",
]

MANIFEST, FORMAT_VERSION = "manifest.json", 2
# A manifest holds settings and digests, a few kilobytes; what is larger is none.
_LARGEST = 1 << 22
_MOST_STEPS = 1 << 62
_FIELDS: dict[str, type] = {
    "step": int,
    "attempt": int,
    "settings": dict,
    "identity": dict,
    "versions": dict,
    "threads": int,
    "files": dict,
    "sha256": str,
}


REMEDY = " Resume from an earlier one, or start a new run."


def damage(folder: str | Path, fault: str) -> ValueError:
    """The error that says what is wrong with a damaged checkpoint."""
    return ValueError(f"{folder} is a damaged checkpoint: {fault}.{REMEDY}")


def fault_of(error: Exception) -> str:
    """What is wrong with a damaged checkpoint, without what to do, where something is done already."""
    return str(error).removesuffix(REMEDY)


def none_is_whole(error: Exception, folder: Path) -> Exception:
    """The error that says that no checkpoint in a folder can be gone on from; ``error`` is the last one's."""
    message = (
        f"{fault_of(error)} None of the checkpoints in {folder} can be gone on from: choose another output_dir "
        "or remove them, and start a new run."
    )
    return type(error)(*error.args[:1], message) if isinstance(error, OSError) and error.errno else type(error)(message)


@contextmanager
def unreadable_told(folder: str | Path) -> Iterator[None]:
    """Within this block an error of the system while reading, a failing disk's say, is told with checkpoint and file.

    Raises:
        OSError: of the same kind, with its number.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise  # A sentence of its own.
        what = Path(os.fsdecode(error.filename)).name if error.filename else "a file of it"
        raise OSError(
            error.errno,
            f"{folder} cannot be read: {what}: {error.strerror}. Nothing of it was loaded: look at the disk and the "
            "rights, or resume from an earlier checkpoint, which resume_from='latest' does where there is one",
        ) from error


def write_manifest(folder: str | Path, about: Mapping[str, Any], names: Sequence[str]) -> None:
    """Write the manifest of files that are in a folder already.

    Args:
        folder: the checkpoint.
        about: ``step``, ``attempt``, ``settings`` and ``identity`` of the run, as JSON can hold them; ``processes``
            where there were several.
        names: the files.
    """
    path = Path(folder)
    manifest = {
        "format_version": FORMAT_VERSION,
        **about,
        **made_with(about.get("processes", 1)),
        "files": {name: _facts(path / name) for name in names},
    }
    content = json.dumps({**manifest, "sha256": _digest(manifest)}, indent=1, ensure_ascii=True)
    (path / MANIFEST).write_text(content, encoding="utf-8")


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The manifest of a checkpoint, whose other files are not looked at.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be read; checkpoint and file are named.
        ValueError: it is not as it was written, or one of a newer version.
    """
    with unreadable_told(folder):
        return _manifest(folder)


def _manifest(folder: str | Path) -> dict[str, Any]:
    path = _plain_file(folder, MANIFEST)
    if path is None:
        older = (
            ", as those of versions before 0.3: nothing tells whether it is whole, so start a new run"
            if (Path(folder) / "state.json").is_file()
            else ""
        )
        if not Path(folder).exists():
            raise FileNotFoundError(
                f"there is no {folder}: give the folder of a checkpoint, or 'latest' for the newest."
            )
        inner = (
            "" if next(Path(folder).glob("checkpoint-*"), None) is None else ", but holds some: name one, or 'latest'"
        )
        raise FileNotFoundError(f"{folder} is no checkpoint: it has no {MANIFEST}{older or inner}.")
    try:
        manifest = parsed_description(path, _LARGEST)
    except ValueError as error:
        raise damage(folder, f"{MANIFEST} cannot be read ({error})") from error
    if not isinstance(manifest, dict):
        raise damage(folder, f"{MANIFEST} holds a {type(manifest).__name__}")
    number = manifest.get("format_version")
    if type(number) is int and number > FORMAT_VERSION:
        raise ValueError(
            f"{folder} has format version {number}, and this mopref reads {FORMAT_VERSION}: use the release of mopref "
            f"that wrote it ({manifest.get('versions')!r:.200})."
        )
    for name, kind in _FIELDS.items():
        if not isinstance(manifest.get(name), kind):
            raise damage(folder, f"{name!r} in {MANIFEST} is {manifest.get(name)!r:.80}")
    for name, least in (("step", 0), ("attempt", 1)):
        # True is an int, and a number of thousands of digits could not be counted on from.
        if type(manifest[name]) is not int or not least <= manifest[name] < _MOST_STEPS:
            raise damage(folder, f"{name!r} in {MANIFEST} is {manifest[name]!r:.80}")
    if manifest["sha256"] != _digest({name: value for name, value in manifest.items() if name != "sha256"}):
        raise damage(folder, f"{MANIFEST} is no longer what was written (sha256)")
    return manifest


def check_files(folder: str | Path, manifest: Mapping[str, Any], names: Sequence[str]) -> None:
    """Refuse files that are no longer what was written.

    Raises:
        FileNotFoundError: one is missing.
        ValueError: one has another size or checksum.
    """
    for name in names:
        path = _plain_file(folder, name)
        if path is None:
            raise FileNotFoundError(f"{folder} is no whole checkpoint: it has no {name}.")
        written = manifest["files"].get(name)
        if not isinstance(written, dict) or written.get("bytes") != path.stat().st_size:
            raise damage(folder, f"{name} is no longer what was written ({path.stat().st_size} bytes)")
        if written != _facts(path):
            raise damage(folder, f"{name} is no longer what was written (sha256)")


def _plain_file(folder: str | Path, name: str) -> Path | None:
    """The path of a file, if it is there; no link out of the folder, no pipe and no device is read."""
    try:
        return regular_file(Path(folder), name)
    except ValueError as error:
        raise damage(folder, str(error).rstrip(".")) from error


def _facts(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": file_digest(path)}


def _digest(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
