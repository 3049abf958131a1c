"""Official scores of each head: predictions in, numbers with their protocol out.

What runs a model is in `posekit.evaluation.runner` and `cross`, which need torch; this does not.
"""

from posekit.evaluation.base import Scores
from posekit.evaluation.baseline import MeanPose
from posekit.evaluation.compare import Comparison, compare_runs
from posekit.evaluation.protocol import Protocol
from posekit.evaluation.registry import EVALUATORS, evaluate, get_evaluator, protocol_of
from posekit.evaluation.score import FileScores, score_file
from posekit.poses.table import Poses

__all__ = [
    "EVALUATORS",
    "Comparison",
    "FileScores",
    "MeanPose",
    "Poses",
    "Protocol",
    "Scores",
    "compare_runs",
    "evaluate",
    "get_evaluator",
    "protocol_of",
    "score_file",
]
