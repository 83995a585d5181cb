"""What the site takes from the repository outside of docs/: pages that live there, and the reference of the commands.

Links are written for who reads the repository.  On the site they lead to a page of it, or become the name of the file.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.cli import get_docs_for_click

from s2c_deploy.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
#: Pages that live elsewhere in the repository: page of the site -> file.
ELSEWHERE = {
    "project/architecture.md": "ARCHITECTURE.md",
    "project/changelog.md": "CHANGELOG.md",
    "project/contributing.md": "CONTRIBUTING.md",
    "project/security.md": "SECURITY.md",
    **{f"models/{name}.md": f"export/{name}/README.md" for name in ("conv", "conv-tiny", "hybrid", "attention")},
}
COMMANDS = "reference/cli.md"
LINK = re.compile(r"(?<!!)\[([^\]\n]+)\]\((?!\w+:)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for page, source in ELSEWHERE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    for card in (ROOT / "export").glob("*/*.svg"):  # their names tell them apart
        files.append(File.generated(config, f"models/{card.name}", content=card.read_text(encoding="utf-8")))
    files.append(File.generated(config, COMMANDS, content=command_line()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    here = page.file.src_uri
    if here == COMMANDS:
        return markdown
    source = ELSEWHERE.get(here, f"docs/{here}")
    return LINK.sub(lambda found: _link(found, here, source), markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Docstrings name things in Sphinx's way, which Markdown does not know: the name alone is left."""
    return re.sub(r":(?:class|func|meth):(?=<code>)", "", html)


def _link(found: re.Match[str], here: str, source: str) -> str:
    text, link, anchor = found.group(1), found.group(2), found.group(3) or ""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    if not (ROOT / path).exists():
        raise PluginError(f"{source}: no {path}, which [{text}] links to")
    pages = {file: page for page, file in ELSEWHERE.items()}
    page = pages.get(path, path.removeprefix("docs/") if path.startswith("docs/") else None)
    if page is not None:
        return f"[{text}]({posixpath.relpath(page, posixpath.dirname(here) or '.')}{anchor})"
    name = text.strip("`")
    return f"`{path}`" if name in (path, posixpath.basename(path)) else f"{text} (`{path}`)"


def command_line() -> str:
    """Every command with its options, as ``--help`` gives them."""
    group = typer.main.get_command(app)
    for command in _below(group):
        command.short_help = (command.help or "").partition("\n\n")[0]  # whole sentences in the lists of commands
    text = get_docs_for_click(obj=group, ctx=typer.Context(group, info_name="s2c-deploy"), name="s2c-deploy")
    text = text.replace("# `s2c-deploy`", "# Command line", 1)
    # Examples are paragraphs of a command's help that begin with a program's name.
    text = re.sub(r"^((?:s2c-deploy|tritonserver) .*)$", r"```sh\n\1\n```", text, flags=re.M)
    return text.replace("\n```\n\n```sh\n", "\n")


def _below(command: Any) -> Iterator[Any]:
    for inner in getattr(command, "commands", {}).values():
        yield inner
        yield from _below(inner)
