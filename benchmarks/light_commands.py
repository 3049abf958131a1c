"""Processor seconds of commands that only read text: the least of several runs of each.

    python benchmarks/light_commands.py [--runs 5]

`tests/test_public_api.py` holds what keeps them light: none of them imports torch.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys

COMMANDS = (["--help"], ["datasets", "list"], ["train", "quikstart"])


def processor_seconds(words: list[str]) -> float:
    """Run `posekit WORDS` and return its processor seconds, user and system."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "posekit.cli", *words], capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print a line for each command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    for words in COMMANDS:
        times = [processor_seconds(words) for _ in range(runs)]
        print(f"posekit {' '.join(words):<16} {min(times):.2f} s (slowest {max(times):.2f} s)")


if __name__ == "__main__":
    main()
