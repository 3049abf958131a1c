"""Poses: N instances with keypoints, their files, conversions, similarity and tracking."""
