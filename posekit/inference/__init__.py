"""Inference of posekit."""
