"""Adds the gallery, which ``python -m examples.gallery build/gallery`` makes, to the site's pages."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

GALLERY = Path(__file__).parents[1] / "build" / "gallery"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Called by mkdocs with the files that it found under ``docs/``."""
    for path in sorted(GALLERY.iterdir()):
        files.append(File.generated(config, f"gallery/{path.name}", abs_src_path=str(path)))
    return files
