"""The command `videollm import-official` for video systems: published files become a checkpoint directory. One module a
system."""
