"""Checkpoints that were changed and sealed again: only their content can tell then."""

from pathlib import Path
from typing import Any

from mopref.training.checkpoint import save_state
from mopref.training.manifest import read_manifest, write_manifest

FILES = ("manifest.json", "state.json", "state.safetensors")


def about_run(folder: Path) -> dict[str, Any]:
    """What the manifest of a checkpoint says of its run."""
    manifest = read_manifest(folder)
    return {name: manifest[name] for name in ("step", "attempt", "settings", "identity")}


def seal(folder: Path, **change: Any) -> None:
    """Make the manifest go with the files as they are now."""
    write_manifest(folder, {**about_run(folder), **change}, FILES[1:])


def put_state(folder: Path, state: dict[str, Any]) -> None:
    """Write another state into a checkpoint of a run."""
    save_state(state, folder, about=about_run(folder))


def empty_checkpoint(output_dir: Path, step: int, attempt: int = 1) -> Path:
    """A whole checkpoint that holds nothing."""
    folder = output_dir / f"checkpoint-{step}"
    folder.mkdir()
    save_state({"step": step}, folder, about={"step": step, "attempt": attempt, "settings": {}, "identity": {}})
    return folder
