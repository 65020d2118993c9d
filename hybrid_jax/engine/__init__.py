"""Train a network: run steps over splits, log metrics, save, evaluate, and stop."""
