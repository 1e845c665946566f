"""Build hooks of the site: add the API reference, made from openapi.json, and rewrite links that leave docs/."""

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from api_reference import pages

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(?<!!)\[([^\]\n]+)\]\(([^)#\s]+)(?:#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each part of the API."""
    description = json.loads((ROOT / "openapi.json").read_text(encoding="utf-8"))
    for path, content in pages(description).items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **others: Any) -> str:
    """Replace links to files outside docs/ by the file's name. Other dead links stay and fail the build."""
    if page.file.abs_src_path is None:
        return markdown
    here = Path(page.file.abs_src_path).parent

    def named(link: re.Match[str]) -> str:
        text, target = link.groups()
        file = (here / target).resolve()
        if "://" in target or file.is_relative_to(ROOT / "docs") or not file.is_relative_to(ROOT) or not file.exists():
            return link[0]
        name = str(file.relative_to(ROOT))
        return f"`{name}`" if text.strip("`/") in name else f"{text} (`{name}`)"

    return LINK.sub(named, markdown)
