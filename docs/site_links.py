"""Hook of mkdocs: links from the docs to other files of the repository lead to its host, where one is known."""

import os
import re
from pathlib import Path
from typing import Any

LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((\.\.?/[^)\s#]+|\.\.)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Replace links that leave the docs folder: with an address in GitHub Actions, with their text elsewhere."""
    docs = Path(config["docs_dir"])
    server, repository = os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_REPOSITORY")

    def replaced(link: re.Match) -> str:
        text, path, anchor = link[1], link[2], link[3] or ""
        target = (docs / page.file.src_uri).parent.joinpath(path).resolve()
        if target.is_relative_to(docs) and target.is_file():
            return link[0]
        if not (server and repository):
            return text
        name = target.relative_to(docs.parent).as_posix()
        return f"[{text}]({server}/{repository}/blob/{os.environ.get('GITHUB_SHA', 'main')}/{name}{anchor})"

    return LINK.sub(replaced, markdown)
