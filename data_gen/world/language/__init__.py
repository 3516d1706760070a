"""The languages that the world is described in."""

from data_gen.world.language.base import Language
from data_gen.world.language.en import English
from data_gen.world.language.es import Spanish
from data_gen.world.language.zh import Chinese

LANGUAGES: tuple[Language, ...] = (English(), Chinese(), Spanish())

__all__ = ["LANGUAGES", "Language"]
