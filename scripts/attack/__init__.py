"""Attacks on a real server and on the files that the library reads; see `__main__`."""
