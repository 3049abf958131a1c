"""posekit: one backbone, many keypoint datasets, one head and one evaluator for each."""

__version__ = "0.1.0"
