"""What the commands do, in Python: train, plan, evaluate, quickstart."""

from posekit.engine.evaluate import evaluate_run
from posekit.engine.train import RunResult, plan, train

__all__ = ["RunResult", "evaluate_run", "plan", "train"]
