"""Optimized operations, each beside its reference."""
