"""Data of posekit."""
