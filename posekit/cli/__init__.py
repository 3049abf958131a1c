"""Every command, each a thin call; `posekit --help` lists them."""

from __future__ import annotations

import os
import sys

from rich.console import Console

from posekit.cli import check, data, new, reproduce, share, use, work
from posekit.cli.base import app
from posekit.errors import ConfigError, PosekitError

__all__ = ["check", "data", "main", "new", "reproduce", "share", "use", "work"]


def main() -> None:
    """Run the command line: exit code 0 done, 1 the work found a problem, 2 wrong usage."""
    # what is wrong with a file is said in our sentence, not in the decoders' own words as well
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        app(standalone_mode=True)
    except ConfigError as error:
        _say_error(error)
        sys.exit(2)
    except PosekitError as error:
        _say_error(error)
        sys.exit(1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _say_error(error: PosekitError) -> None:
    process = f" (process {os.environ['RANK']})" if os.environ.get("RANK", "0") != "0" else ""
    Console(stderr=True).print(
        f"posekit{process}: {error}", style="red", highlight=False, soft_wrap=True, markup=False
    )
