"""Training of posekit."""
