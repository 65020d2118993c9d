"""Optimized operations, each with its reference implementation."""
