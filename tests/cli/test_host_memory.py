"""Memory that a step frees serves the next one; seen in the kernel's count of page faults."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import resource, sys, torch
from posekit.cli.host_memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def step():
    parts = [torch.ones(12_000_000) for _ in range(3)]
    del parts
for _ in range(5):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    command = [sys.executable, "-c", _PROGRAM, how]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_later_steps_fault_in_hardly_any_page() -> None:
    # 3 steps x 144 MB are 105,000 pages of 4 KiB, or 211 huge pages
    assert faults("keep") < 50 < faults("leave")


def test_training_from_python_leaves_the_allocator_of_the_process_alone() -> None:
    program = "import sys, posekit.engine.train; print('posekit.cli.host_memory' in sys.modules)"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
