"""Tiny random video models of transformers."""
