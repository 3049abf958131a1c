"""Official scores of each head: predictions in, numbers with their protocol out.

What runs a model is in `posekit.evaluation.runner` and `cross`, which need torch; this does not.
"""

from posekit.evaluation.autopsy import Diagnosis, diagnose
from posekit.evaluation.base import Predictions, Scores
from posekit.evaluation.baseline import MeanPose
from posekit.evaluation.compare import Comparison, compare_runs
from posekit.evaluation.error_types import Calibration, ErrorTypes, calibration, error_types
from posekit.evaluation.prediction_file import read_predictions
from posekit.evaluation.protocol import Protocol
from posekit.evaluation.registry import EVALUATORS, evaluate, get_evaluator, protocol_of
from posekit.evaluation.score import FileScores, score_file
from posekit.evaluation.sigmas import SigmaEstimate, estimate_sigmas

__all__ = [
    "EVALUATORS",
    "Calibration",
    "Comparison",
    "Diagnosis",
    "ErrorTypes",
    "FileScores",
    "MeanPose",
    "Predictions",
    "Protocol",
    "Scores",
    "SigmaEstimate",
    "calibration",
    "compare_runs",
    "diagnose",
    "error_types",
    "estimate_sigmas",
    "evaluate",
    "get_evaluator",
    "protocol_of",
    "read_predictions",
    "score_file",
]
