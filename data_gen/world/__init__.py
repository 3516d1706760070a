"""A rendered world whose truth is known exactly: coloured things that act, and what can be said of them."""
