"""What the site has that no page of `docs/` says: files from beside it, and two methods that no reader of source sees.

mkdocs loads this file as a hook, and griffe, which reads the docstrings, as an extension.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
BESIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "examples/*.py", "examples/*.csv")
OVERVIEW = "overview.md"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Files of the repository that pages link to are at the same place in the site as in the repository, without `docs/`.

    The README has another name there, because mkdocs would take it for the index.
    """
    for path in sorted(found for pattern in BESIDE for found in ROOT.glob(pattern)):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    files.append(File.generated(config, OVERVIEW, abs_src_path=str(ROOT / "README.md")))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """So a link that leaves `docs/` for one of them loses one step up, and one from the README into `docs/` one step down."""
    if page.file.src_uri == OVERVIEW:
        return markdown.replace("](docs/", "](")
    up = "../" * page.file.src_uri.count("/")
    markdown = markdown.replace(f"]({up}../README.md", f"]({up}{OVERVIEW}")
    for place in ("CHANGELOG.md", "CONTRIBUTING.md", "examples/"):
        markdown = markdown.replace(f"]({up}../{place}", f"]({up}{place}")
    return markdown


class ClassWays(griffe.Extension):
    """`Tuner.restore` and `Tuner.extend` are functions behind a descriptor; `Tuner` takes from them what is not for users."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Called once, when all of the package is read."""
        if pkg.name != "holdfast":
            return
        module = pkg["tuner"]
        del module["Tuner.__init__"].parameters["_handle"]
        for name in ("restore", "extend"):
            function = module[f"_{name}"]
            module.del_member(f"_{name}")
            function.name = name
            function.labels.add("staticmethod")
            module["Tuner"].set_member(name, function)
