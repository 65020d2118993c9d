"""Hot operations that are written by hand, each beside its plain reference."""
