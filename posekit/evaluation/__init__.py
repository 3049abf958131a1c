"""Evaluation of posekit."""
