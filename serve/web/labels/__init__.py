"""The texts of the page in each of its languages."""

from serve.web.labels.base import Labels
from serve.web.labels.chinese import CHINESE
from serve.web.labels.english import ENGLISH

LANGUAGES = {"en": ENGLISH, "zh": CHINESE}

__all__ = ["ENGLISH", "LANGUAGES", "Labels"]
