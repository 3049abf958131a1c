"""Runs the fenced code blocks of a documentation page, so that the page stays true.

A page's test prepares a folder (data that the page speaks of) and calls `run_page`. Blocks run in
the order of the page, in that folder, by the first word of their fence:

    ```bash                  each line is a command; it must end with exit code 0
    ```bash exit=1           the block's last command must end with this code
    ```python                runs in an interpreter of the page's own, where nothing is imported
                             yet; all such blocks of a page share their names
    ```yaml title=dogs.yaml  (any language) is written to that file below the folder
    ```text output           each line must stand in the output of the block before; a line of
                             `...` stands for any lines, runs of blanks count as one
    ```bash not-run          (any language) is shown only: downloads, long training, a GPU

Other blocks (yaml without a title, text, ...) are shown only. Lines that start with `posekit` run
inside the test's process, which saves the seconds of starting a new one; so they cannot be joined
to others by a pipe or &&. All other lines go to bash.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

_FENCE = re.compile(r"^```(\S*) *(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SHELL_SIGNS = {"|", "&&", ";", ">", "<", "&"}


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, the words behind it, its text and line in the page."""

    language: str
    words: tuple[str, ...]
    text: str
    line: int

    def option(self, name: str) -> str | None:
        """Give what stands behind `name=` on the fence."""
        found = [word.partition("=")[2] for word in self.words if word.startswith(f"{name}=")]
        return found[0] if found else None


def blocks_of(page: str) -> Iterator[Block]:
    """Give the fenced blocks of a page in order."""
    for found in _FENCE.finditer(page):
        language, words, text = found.groups()
        line = page.count("\n", 0, found.start()) + 1
        yield Block(language, tuple(words.split()), text, line)


def run_page(file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a page's blocks in a folder; gives how many were run, written or compared.

    Fails the test, naming page and line, where a block does.
    """
    monkeypatch.chdir(folder)
    monkeypatch.setenv("POSEKIT_CACHE", str(folder / ".cache"))
    with _Interpreter() as python:
        return _run_blocks(file, folder, python)


def _run_blocks(file: Path, folder: Path, python: _Interpreter) -> int:
    output = ""
    done = 0
    for block in blocks_of(file.read_text(encoding="utf-8")):
        where = f"{file.name}, line {block.line}"
        title = block.option("title")
        if "not-run" in block.words:
            continue
        if title is not None:
            target = folder / title
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.text, encoding="utf-8")
        elif block.language == "bash":
            output = _run_lines(block, where)
        elif block.language == "python":
            output = python.run(block.text, where)
        elif "output" in block.words:
            _compare(block.text, output, where)
        else:
            continue
        done += 1
    return done


_READ_AND_RUN = """
import contextlib, io, json, sys, traceback
names, answers = {"__name__": "page"}, sys.stdout
for line in sys.stdin:
    text, where = json.loads(line)
    fault = ""
    with contextlib.redirect_stdout(io.StringIO()) as stream:
        try:
            exec(compile(text, where, "exec"), names)
        except BaseException:
            fault = traceback.format_exc()
    print(json.dumps([stream.getvalue(), fault]), file=answers, flush=True)
"""


class _Interpreter:
    """A fresh interpreter that runs a page's blocks one after the other; starts at the first."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> _Interpreter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.communicate()

    def run(self, text: str, where: str) -> str:
        """Return what a block prints; fails the test where it raises."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _READ_AND_RUN],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([text, where]) + "\n")
        self._process.stdin.flush()
        output, fault = json.loads(self._process.stdout.readline())
        assert not fault, f"{where}: the block raised\n{fault}"
        return output


def _run_lines(block: Block, where: str) -> str:
    commands = [
        line for line in block.text.replace("\\\n", " ").splitlines() if line and line[0] != "#"
    ]
    outputs = []
    for number, command in enumerate(commands, start=1):
        wanted = int(block.option("exit") or 0) if number == len(commands) else 0
        words = shlex.split(command, comments=True)
        if words[0] == "posekit" and not _SHELL_SIGNS & set(words):
            code, text = _posekit(words[1:])
        else:
            shell = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", command],  # noqa: S607
                capture_output=True,
                text=True,
                check=False,
            )
            code, text = shell.returncode, shell.stdout + shell.stderr
        assert code == wanted, f"{where}: `{command}` ended with {code}:\n{text}"
        outputs.append(text)
    return "".join(outputs)


def _posekit(arguments: list[str]) -> tuple[int, str]:
    """Run the command line in this process; gives its exit code and what it printed."""
    from posekit.cli import main  # noqa: PLC0415

    kept, stream = sys.argv, io.StringIO()
    sys.argv = ["posekit", *arguments]
    try:
        with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
            main()
    except SystemExit as stop:
        return int(stop.code or 0), stream.getvalue()
    finally:
        sys.argv = kept
    return 0, stream.getvalue()


def _compare(expected: str, output: str, where: str) -> None:
    rest = [" ".join(line.split()) for line in output.splitlines()]
    for line in expected.splitlines():
        wanted = " ".join(line.split())
        if wanted in {"", "..."}:
            continue
        assert wanted in rest, f"{where}: the output lacks the line '{wanted}':\n{output}"
        rest = rest[rest.index(wanted) + 1 :]
