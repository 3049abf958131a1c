"""`python -m posekit.cli`, for launchers such as torchrun."""

from posekit.cli import main

main()
