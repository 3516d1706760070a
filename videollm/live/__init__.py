"""Streams that are watched while they last: cameras, broadcasts, growing files.

A worker process reads and decodes the source (`worker`), and `reader` starts it again when it fails. `watcher` turns
its frames into segments, which `memory` keeps in bounded space, and `session` answers questions about them.
"""
