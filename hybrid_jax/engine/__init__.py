"""Host code: it runs training steps over splits, and writes the files of a run."""
