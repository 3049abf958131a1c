"""Adapters of posekit."""
