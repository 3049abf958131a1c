"""What mkdocs does to a page before rendering it."""

import re

_FENCE = re.compile(r"^```(\w+)[ \t]+(.+)$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: object) -> str:
    """Turn the words that the tests read behind a fence's language into what the page shows."""
    return _FENCE.sub(_shown, markdown)


def _shown(found: re.Match[str]) -> str:
    language, words = found.groups()
    title = re.search(r"title=(\S+)", words)
    return f'```{language} title="{title.group(1)}"' if title else f"```{language}"
