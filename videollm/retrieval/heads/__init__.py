"""The similarity heads of text-video retrieval, one module each."""
