"""Codecs of posekit."""
