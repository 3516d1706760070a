"""From which checkpoint a run goes on. One that was killed while it wrote a checkpoint left that torn."""

from pathlib import Path
from typing import Any

import torch.distributed as dist
from transformers import Trainer

from videollm.errors import ConfigError

COMPLETE = "complete"  # written last, by the first rank: a checkpoint without this file was interrupted


class ResumableTrainer(Trainer):
    """Marks checkpoints that all ranks have written, and goes on from no other."""

    def train_from(self, resume: str) -> None:
        """resume: see `whole_checkpoint`, which also says what is refused."""
        self.train(resume_from_checkpoint=whole_checkpoint(Path(self.args.output_dir or "."), resume))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if dist.is_initialized():
            dist.barrier()  # each rank has written its part
        if self.args.should_save:
            (Path(self.args.output_dir or ".") / f"checkpoint-{self.state.global_step}" / COMPLETE).touch()


def whole_checkpoint(output: Path, resume: str) -> str | None:
    """The checkpoint that `resume` names; for "last" the newest whole one of `output`; for neither, or where there is
    none yet, None. Raises ConfigError where the one named is torn or missing."""
    if resume == "last":
        whole = [mark.parent for mark in output.glob(f"checkpoint-*/{COMPLETE}")]
        return str(max(whole, key=lambda p: int(p.name.partition("-")[2]))) if whole else None
    if resume and not (Path(resume) / COMPLETE).is_file():
        raise ConfigError(
            f"{resume} is no whole checkpoint: it is not there, or its run was stopped while writing it; "
            f"resume last takes the newest whole one of {output}, if there is any"
        )
    return resume or None
