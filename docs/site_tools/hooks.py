"""What the site needs beside its pages: the package as it is installed, and the repository's root files as pages.

MkDocs calls the functions whose names begin with ``on_`` (``hooks`` in mkdocs.yml).
"""

import posixpath
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
# Where mkdocstrings looks for the package; mkdocs.yml names it too.
SOURCES = ROOT / "build" / "docs-sources"
# Root files that are pages of the site: never copied into docs/.
ROOT_PAGES = {"CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md", "CHANGELOG.md": "changelog.md"}
OTHER_PAGES = {"README.md": "index.md", **ROOT_PAGES}
# A page of the reference that grows beyond this is to be cut in two.
LARGEST_PAGE = 400_000
# What a browser would fetch by itself, from anywhere else.
_FETCHED = re.compile(r"<(?:script|img|iframe)[^>]+src=\"?(https?:[^\" >]+)|<link[^>]+href=\"?(https?:[^\" >]+)")


@event_priority(100)  # Before mkdocstrings looks for the folder, which a fresh clone has not.
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
        content = re.sub(r"\]\(docs/", "](", content)
        for other, stand_in in OTHER_PAGES.items():
            content = content.replace(f"]({other}", f"]({stand_in}")
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Links out of docs/, which work in the repository: to the page that stands for the file, or to nothing."""
    folder = posixpath.dirname(page.file.src_uri)

    def moved(match: re.Match[str]) -> str:
        text, target, anchor = match.group("text", "target", "anchor")
        outside = posixpath.normpath(posixpath.join(folder, target))
        if not outside.startswith("../"):
            return match.group()
        stand_in = OTHER_PAGES.get(outside.removeprefix("../"))
        return f"[{text}]({posixpath.relpath(stand_in, folder or '.')}{anchor})" if stand_in else text

    return re.sub(r"\[(?P<text>[^\]]+)\]\((?P<target>\.\./[\w./-]+)(?P<anchor>(?:#[\w-]+)?)\)", moved, markdown)


def on_post_build(config: MkDocsConfig, **_: Any) -> None:
    """Refuse pages that are too large, and pages that a reader's browser would fetch anything for.

    Raises:
        PluginError: there is one.
    """
    for path in sorted(Path(config.site_dir).rglob("*.html")):
        page, text = path.relative_to(config.site_dir), path.read_text(encoding="utf-8")
        if len(text.encode()) > LARGEST_PAGE:
            raise PluginError(f"{page} has {len(text.encode())} bytes: at most {LARGEST_PAGE}; cut it in two.")
        for script, sheet in _FETCHED.findall(text):
            raise PluginError(f"{page} fetches {script or sheet}: a site of ours fetches nothing from elsewhere.")
