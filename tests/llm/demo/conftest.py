"""A small wheel, and a command in the place of pip's that copies it."""

import hashlib
import sys
import zipfile

import pytest

from mopref.llm.demo import download
from mopref.llm.demo.download import Asset

FILES = {"data/a.csv": b"1,2\n", "data/sub/b.csv": b"3,4\n", "data/skip.txt": b"no", "code.py": b"raise SystemExit"}


@pytest.fixture(scope="session")
def make_wheel():
    """Write a wheel that pip accepts and return its path and the asset that describes it."""

    def make(folder, files=FILES, package="tiny_asset", version="1.0"):
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

    return make


@pytest.fixture
def wheel(tmp_path, make_wheel):
    return make_wheel(tmp_path / "index")


@pytest.fixture
def pip(monkeypatch, wheel):
    """Put a command that copies the wheel in pip's place; the list returned counts the calls."""
    calls = []

    def command(asset, folder):
        calls.append(asset.package)
        code = "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[2])"
        return [sys.executable, "-c", code, str(wheel[0]), str(folder)]

    monkeypatch.setattr(download, "_pip_command", command)
    return calls


@pytest.fixture
def write_scores():
    """Write a CSV file the way PyRIT does: comment lines, a header, rows."""

    def write(folder, name, header, *lines, comment="# version=1"):
        folder.mkdir(exist_ok=True)
        (folder / name).write_text("\n".join([comment, header, *lines]) + "\n", encoding="utf-8")

    return write


@pytest.fixture
def scores(tmp_path, write_scores):
    """A folder with two small files of harm scores."""
    folder = tmp_path / "scores"
    write_scores(
        folder,
        "one.csv",
        "category,objective,assistant_response,human_score,data_type",
        "x,first prompt,answer one,1.0,text",
        "x,first prompt,cautious answer,0.25,text",
        "x,first prompt,decline,0.0,text",
        "x,first prompt,an image,0.0,image_path",
        "x,lonely prompt,answer,0.0,text",
    )
    write_scores(
        folder,
        "two.csv",
        "category,objective,assistant_response,human_score_1,human_score_2,data_type",
        'x,second prompt,"answer two,\n# with a line that looks like a comment",0.5,0.75,text',
        "x,second prompt,better answer,0.5,,text",
        f"x,second prompt,{'d' * 600},0.0,0.0,text",
        "x, first prompt ,answer one,0.5,0.5,text",
        comment='"# version=1, a, b"\n# more',
    )
    return folder
