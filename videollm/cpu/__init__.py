"""Faster versions, for CPUs only, of what PyTorch and transformers compute: linear layers, attention, Llama.

Nothing in this package runs on a GPU. Every function here has a plain counterpart that gives the same numbers within
rounding, and the callers choose by the device of the weights.
"""
