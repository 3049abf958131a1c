"""The shell of the HTML pages: one file, one look, nothing from anywhere else."""

from __future__ import annotations

import base64
from html import escape
from importlib import resources

import cv2
import numpy as np


def html_page(title: str, navigation: str, body: str) -> str:
    """Return a whole HTML page that needs nothing from anywhere else.

    Args:
        title: plain text.
        navigation, body: HTML.
    """
    style = resources.files("posekit.pages").joinpath("page.css").read_text("utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>\n{style}</style></head>\n"
        f'<body><div class="page"><nav aria-label="Contents">{navigation}</nav>\n'
        f"<main>{body}</main></div></body></html>\n"
    )


def jpeg_uri(picture: np.ndarray, quality: int = 86) -> str:
    """Return a picture, uint8 (h, w, 3) RGB, as a data URI (JPEG, to keep the page small)."""
    _, data = cv2.imencode(
        ".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
