"""Senses: what is said, seen and written in a video, as findings with times."""
