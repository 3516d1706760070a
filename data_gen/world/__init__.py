"""A rendered world whose truth is known exactly: coloured things that act on backgrounds, and what can be said of them."""
