"""Probes of whether answers can be trusted: tasks like any other, whose controls are part of what is measured."""

from videollm.evaluate.tasks.base import Task
from videollm.evaluate.trust.abstention import Abstention
from videollm.evaluate.trust.evidence import EvidenceQuality
from videollm.evaluate.trust.flip import TemporalFlip
from videollm.evaluate.trust.hallucination import Hallucination
from videollm.evaluate.trust.paraphrase import Paraphrase

__all__ = ["PROBES"]

PROBES: dict[str, Task] = {
    probe.name: probe for probe in (Hallucination(), Abstention(), Paraphrase(), TemporalFlip(), EvidenceQuality())
}
