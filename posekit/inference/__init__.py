"""Prediction on photographs and videos, export, and what reads both.

Imports nothing, so that the runtime for exported models (`posekit.inference.runtime`) works without
torch; what users need is in `posekit` itself (`load`, `Predictor`, `predict`, `export`).
"""
