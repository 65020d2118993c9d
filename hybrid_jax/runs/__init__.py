"""A run: its folder, its trained network, and its scores on validation images."""
