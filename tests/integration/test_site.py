"""The site is built with every warning an error, has a place for every public name, and fetches nothing."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = (
    "holdfast",
    "holdfast.config",
    "holdfast.engines.inline",
    "holdfast.engines.simulated",
    "holdfast.errors",
    "holdfast.logger",
    "holdfast.schedulers",
    "holdfast.search",
    "holdfast.stopper",
    "holdfast.testing",
    "holdfast.utils",
)
# What a browser fetches by itself when it shows a page: all but links that a reader follows.
FETCHED = re.compile(r"<(?:(?:script|img|iframe|source)\b[^>]*\bsrc|link\b[^>]*\bhref)=\"?(?:https?:)?//[^>]*>")
IN_STYLES = re.compile(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//")


def build(config: Path, into: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(config), "--site-dir", str(into)],
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        cwd=config.parent,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", into)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return into


def documented(site: Path) -> set[str]:
    """The full names that the reference has a place for: the site's inventory, in Sphinx's format."""
    head, _, packed = (site / "objects.inv").read_bytes().partition(b"zlib.\n")
    assert head.startswith(b"# Sphinx inventory version 2")
    return {line.split()[0] for line in zlib.decompress(packed).decode().splitlines()}


def public(room: str) -> set[str]:
    """The public names of a room, each by where it is defined."""
    module = importlib.import_module(room)
    named = {name: getattr(module, name) for name in module.__all__ if name != "POINTS"}
    return {f"{value.__module__}.{value.__qualname__}" for value in named.values()}


def test_every_page_is_there(site: Path) -> None:
    pages = [page.relative_to(ROOT / "docs") for page in (ROOT / "docs").rglob("*.md")]
    built = [site / page.with_name("index.html" if page.name == "README.md" else f"{page.stem}.html") for page in pages]
    assert [page for page in built if not page.is_file()] == []
    overview = (site / "overview.html").read_text(encoding="utf-8")  # the README, which is no index of docs/
    assert re.search(r'<a href="?fault-tolerance.html"?', overview)
    assert re.search(r'<a href="?overview.html#environment-variables"?', (site / "index.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize("room", ROOMS)
def test_the_reference_has_every_public_name(site: Path, room: str) -> None:
    assert public(room) - documented(site) == set()


def test_the_reference_has_what_stands_elsewhere_and_no_private_name(site: Path) -> None:
    names = documented(site)
    assert {"holdfast.tuner.Tuner.restore", "holdfast.tuner.Tuner.extend"} <= names
    assert {"holdfast.faults.POINTS", "holdfast.engines.local.engine.LocalEngine", "holdfast.search.imported.Past"} <= names
    assert "holdfast.engines.ray.engine.RayEngine" in names
    for library in ("pytorch_lightning", "keras", "xgboost", "lightgbm", "transformers", "mlflow", "wandb", "comet", "aim"):
        assert any(name.startswith(f"holdfast.integration.{library}.") for name in names), library
    assert [name for name in names if name.rpartition(".")[2].startswith("_")] == []


def test_a_reader_fetches_nothing_from_elsewhere(site: Path) -> None:
    assert [found for page in site.rglob("*.html") for found in FETCHED.findall(page.read_text(encoding="utf-8"))] == []
    styled = [*site.rglob("*.css"), *site.rglob("*.svg")]
    assert [file.name for file in styled if IN_STYLES.search(file.read_text(encoding="utf-8"))] == []


def test_what_a_page_fetches_is_found() -> None:
    assert FETCHED.search('<script async src="https://unpkg.com/x.js">')
    assert FETCHED.search('<link rel="stylesheet" href="//fonts.googleapis.com/css">')
    assert IN_STYLES.search('@font-face{src: url("https://fonts.gstatic.com/x")}')


def test_a_link_that_leads_nowhere_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# One\n\n[a](nowhere.md), [b](two.md#nothing)\n", encoding="utf-8")
    (tmp_path / "docs" / "two.md").write_text("# Two\n", encoding="utf-8")
    (tmp_path / "mkdocs.yml").write_text(
        f"INHERIT: {ROOT / 'mkdocs.yml'}\ndocs_dir: docs\nhooks: []\nplugins: [search]\nnav: [index.md]\n", encoding="utf-8"
    )
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode != 0
    assert "'nowhere.md'" in done.stderr
    assert "'two.md#nothing'" in done.stderr
    assert done.stderr.count("WARNING") == 2, "a page that the menu leaves out is no error"
