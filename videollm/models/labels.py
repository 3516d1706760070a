"""The label of positions that have no loss."""

IGNORE = -100  # as in torch and transformers
