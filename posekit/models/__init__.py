"""Models of posekit."""
