"""Diffusion models that make what an answer shows: pictures, videos and sounds (extra `generate`)."""
