"""The checkpoint that a run resumes from. A run that is killed while it writes a checkpoint leaves an incomplete
one."""

from pathlib import Path

from videollm.errors import ConfigError

COMPLETE = "complete"  # the first rank writes this file last, so that a checkpoint without it was interrupted


def complete_checkpoint(output: Path, resume: str) -> str | None:
    """Returns the checkpoint to resume from, or None for a new run.

    Args:
        output: The directory of the run.
        resume: A checkpoint directory, or "last" for the newest complete checkpoint of `output`, if there is one, or
            "".

    Raises:
        ConfigError: If the named checkpoint is missing or incomplete.
    """
    if resume == "last":
        complete = [mark.parent for mark in output.glob(f"checkpoint-*/{COMPLETE}")]
        return str(max(complete, key=lambda p: int(p.name.partition("-")[2]))) if complete else None
    if resume and not (Path(resume) / COMPLETE).is_file():
        raise ConfigError(
            f"{resume} is not a complete checkpoint: it does not exist, or its run was stopped while writing it; "
            f"--resume last takes the newest complete one of {output}, if there is one"
        )
    return resume or None
