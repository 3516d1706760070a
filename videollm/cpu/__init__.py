"""Faster versions, for CPUs only, of what PyTorch and transformers compute: linear layers, attention and Llama.

Nothing in this package runs on a GPU. Each function has a plain counterpart with the same results within rounding, and
callers choose by the device of the weights.
"""
