"""What the site needs beside its pages: the package as it is installed, and the repository's root files as pages.

MkDocs calls these functions by their names (``hooks`` in mkdocs.yml).
"""

import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
# Where mkdocstrings looks for the package; mkdocs.yml names it too.
SOURCES = ROOT / "build" / "docs-sources"
# Root files that are pages of the site: never copied into docs/.
ROOT_PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
OTHER_PAGES = {"README.md": "index.md", **ROOT_PAGES}


def on_config(config: MkDocsConfig, **_: Any) -> MkDocsConfig:
    """Lay the package out as a wheel has it: by the map of pyproject.toml, which static analysis does not read."""
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    shutil.rmtree(SOURCES, ignore_errors=True)
    for package, folder in setuptools["package-dir"].items():
        shutil.copytree(
            ROOT / folder, SOURCES.joinpath(*package.split(".")), ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
        )
    return config


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """The repository's root files, as pages."""
    for name, page in ROOT_PAGES.items():
        content = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=re.sub(r"\]\(docs/", "](", content)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links out of docs/, which work in the repository: to the page that stands for the file, or to nothing."""

    def moved(match: re.Match[str]) -> str:
        text, target, anchor = match.group("text", "target", "anchor")
        page = OTHER_PAGES.get(target)
        return f"[{text}]({page}{anchor})" if page else text

    return re.sub(r"\[(?P<text>[^\]]+)\]\(\.\./(?P<target>[\w./-]+)(?P<anchor>(?:#[\w-]+)?)\)", moved, markdown)
