"""Similarity heads: one small module each."""
