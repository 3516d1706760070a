"""The checkpoint that a run resumes from. A run that is killed while it writes a checkpoint leaves an incomplete
one."""

from pathlib import Path

from videollm.errors import ConfigError

# The first rank writes this file last, so that a checkpoint without it was interrupted. It has the optimizer's name.
COMPLETE = "complete"


def complete_checkpoint(output: Path, resume: str, optimizer: str) -> str | None:
    """Returns the checkpoint to resume from, or None for a new run.

    Args:
        output: The directory of the run.
        resume: A checkpoint directory, or "last" for the newest complete checkpoint of `output`, if there is one, or
            "".
        optimizer: The optimizer of the run that resumes.

    Raises:
        ConfigError: If the named checkpoint is missing or incomplete, or has the state of another optimizer.
    """
    checkpoint = newest_checkpoint(output) if resume == "last" else Path(resume) if resume else None
    if checkpoint is None:
        return None
    if not (checkpoint / COMPLETE).is_file():
        raise ConfigError(
            f"{resume} is not a complete checkpoint: it does not exist, or its run was stopped while writing it; "
            f"--resume last takes the newest complete one of {output}, if there is one"
        )
    made_with = (checkpoint / COMPLETE).read_text()
    if made_with not in ("", optimizer):  # it was empty in earlier versions
        raise ConfigError(
            f"{checkpoint} has the state of the optimizer {made_with!r}, and this run uses {optimizer!r}: resume with "
            "the optimizer that the run began with, or begin a new run"
        )
    return str(checkpoint)


def newest_checkpoint(output: Path) -> Path | None:
    """Returns the newest complete checkpoint of a run, or None if there is none."""
    complete = [mark.parent for mark in output.glob(f"checkpoint-*/{COMPLETE}")]
    return max(complete, key=lambda directory: int(directory.name.partition("-")[2]), default=None)
