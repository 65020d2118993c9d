"""Host code: what drives a training step over splits, and what a run leaves."""
