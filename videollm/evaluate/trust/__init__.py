"""Probes of whether the answers of a model can be trusted.

A probe is a `Task`. Its controls are part of the measurement: abstention, for example, should be high on blank video.
"""

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
