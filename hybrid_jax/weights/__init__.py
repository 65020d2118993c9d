"""Weights in files, in the names and shapes of this project or of timm."""
