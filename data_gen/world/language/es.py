"""The world in Spanish."""

import re
from dataclasses import dataclass
from typing import ClassVar

from data_gen.world.clip import Background
from data_gen.world.language.base import Language, capital
from data_gen.world.meaning import (
    Change,
    Clause,
    Colour,
    Direction,
    Growth,
    Guess,
    Instant,
    Length,
    Noun,
    Number,
    Unknown,
    Value,
    YesNo,
)


@dataclass(frozen=True, slots=True)
class _Word:
    one: str
    many: str
    feminine: bool = False


_SHAPES = {
    "circle": _Word("círculo", "círculos"),
    "square": _Word("cuadrado", "cuadrados"),
    "triangle": _Word("triángulo", "triángulos"),
    "star": _Word("estrella", "estrellas", True),
    "heart": _Word("corazón", "corazones"),
    "diamond": _Word("rombo", "rombos"),
    "cross": _Word("cruz", "cruces", True),
    "hexagon": _Word("hexágono", "hexágonos"),
    "arrow": _Word("flecha", "flechas", True),
    "house": _Word("casa", "casas", True),
    "tree": _Word("árbol", "árboles"),
    "car": _Word("coche", "coches"),
    "fish": _Word("pez", "peces"),
    "flower": _Word("flor", "flores", True),
    "cup": _Word("taza", "tazas", True),
    "boat": _Word("barco", "barcos"),
    "cloud": _Word("nube", "nubes", True),
    "moon": _Word("luna", "lunas", True),
    "key": _Word("llave", "llaves", True),
    "umbrella": _Word("paraguas", "paraguas"),
    "mushroom": _Word("seta", "setas", True),
    "butterfly": _Word("mariposa", "mariposas", True),
    "rocket": _Word("cohete", "cohetes"),
    "sun": _Word("sol", "soles"),
    "snowman": _Word("muñeco de nieve", "muñecos de nieve"),
    "telephone": _Word("teléfono", "teléfonos"),
    "plane": _Word("avión", "aviones"),
    "envelope": _Word("sobre", "sobres"),
    "pencil": _Word("lápiz", "lápices"),
    "snowflake": _Word("copo de nieve", "copos de nieve"),
}
# Masculine and feminine, one and many.
_Forms = tuple[str, str, str, str]
_COLOURS: dict[str, _Forms] = {
    "red": ("rojo", "roja", "rojos", "rojas"),
    "green": ("verde", "verde", "verdes", "verdes"),
    "blue": ("azul", "azul", "azules", "azules"),
    "yellow": ("amarillo", "amarilla", "amarillos", "amarillas"),
    "orange": ("naranja", "naranja", "naranjas", "naranjas"),
    "purple": ("morado", "morada", "morados", "moradas"),
    "white": ("blanco", "blanca", "blancos", "blancas"),
    "black": ("negro", "negra", "negros", "negras"),
    "pink": ("rosa", "rosa", "rosas", "rosas"),
    "brown": ("marrón", "marrón", "marrones", "marrones"),
    "cyan": ("cian", "cian", "cian", "cian"),
}
_SIZES: dict[str, _Forms] = {
    "small": ("pequeño", "pequeña", "pequeños", "pequeñas"),
    "large": ("grande", "grande", "grandes", "grandes"),
}
_TEXTURES = {"striped": "a rayas", "dotted": "de lunares", "checkered": "a cuadros"}
_ARTICLES: dict[bool, _Forms] = {True: ("un", "una", "unos", "unas"), False: ("el", "la", "los", "las")}
_NUMBERS = ("cero", "uno", "dos", "tres", "cuatro", "cinco", "seis")
_TIMES = ("ninguna vez", "una vez", "dos veces", "tres veces", "cuatro veces", "cinco veces")
_DIRECTIONS = {
    "left": "hacia la izquierda",
    "right": "hacia la derecha",
    "up": "hacia arriba",
    "down": "hacia abajo",
    "up_left": "hacia arriba a la izquierda",
    "up_right": "hacia arriba a la derecha",
    "down_left": "hacia abajo a la izquierda",
    "down_right": "hacia abajo a la derecha",
    "clockwise": "en sentido horario",
    "counterclockwise": "en sentido antihorario",
}
# Kind -> the verb in the indicative and in the subjunctive, and what follows it.
_VERBS = {
    **{f"move_{name}": ("se mueve", "se mueva", words) for name, words in _DIRECTIONS.items()},
    **{f"pan_{name}": ("se desplaza", "se desplace", _DIRECTIONS[name]) for name in ("left", "right", "up", "down")},
    **{f"rotate_{name}": ("gira", "gire", _DIRECTIONS[name]) for name in ("clockwise", "counterclockwise")},
    "approach": ("se acerca", "se acerque", ""),
    "recede": ("se aleja", "se aleje", ""),
    "blink": ("parpadea", "parpadee", "{times}"),
    "change_colour": ("se vuelve", "se vuelva", "{colour}"),
    "appear": ("aparece", "aparezca", ""),
    "disappear": ("desaparece", "desaparezca", ""),
    "collide": ("choca", "choque", "con {other}"),
    "follow": ("sigue", "siga", "a {other}"),
    "swap": ("cambia", "cambie", "de sitio con {other}"),
    "zoom_in": ("hace", "haga", "zoom para acercarse"),
    "zoom_out": ("hace", "haga", "zoom para alejarse"),
}
_GROUNDS = {
    "plain": "un fondo liso {}",
    "gradient": "un fondo degradado {}",
    "noise": "un fondo nuboso {}",
    "photo": "un fondo fotográfico {}",
}
_GUESSES = {
    "sound.whistle": "un silbido",
    "sound.drum": "un golpe de tambor",
    "sound.silence": "ninguno, está en silencio",
    "weight.gram": "un gramo",
    "weight.kilogram": "un kilo",
    "weight.ton": "una tonelada",
    "smell.roses": "a rosas",
    "smell.smoke": "a humo",
    "smell.coffee": "a café",
    "after.grows": "todo crece",
    "after.leaves": "todo se va",
    "after.nothing": "no ocurre nada más",
    "why.bored": "por aburrimiento",
    "why.pushed": "porque alguien lo quiere",
    "why.hurry": "para ahorrar tiempo",
    "maker.child": "un niño",
    "maker.painter": "una pintora",
    "maker.robot": "un robot",
}


class Spanish(Language):
    code = "es"
    wordings: ClassVar[dict[str, tuple[str, ...]]] = {
        "existence.is_there": ("¿Hay {thing} en el vídeo?", "¿Se ve {thing} en algún momento del vídeo?"),
        "count.start": (
            "¿Cuántas cosas se ven justo al principio del vídeo?",
            "¿Cuántas cosas muestra el primer fotograma?",
        ),
        "count.end": (
            "¿Cuántas cosas se ven justo al final del vídeo?",
            "¿Cuántas cosas muestra el último fotograma?",
        ),
        "count.group_start": ("¿{things:how_many} hay al principio?",),
        "count.group_end": ("¿{things:how_many} hay al final?",),
        "colour.of": ("¿De qué color es {thing}?", "¿Qué color tiene {thing}?"),
        "colour.actor": ("¿De qué color es el objeto que {event:predicate}?",),
        "direction.move": ("¿En qué dirección se mueve {thing}?", "¿Hacia dónde se mueve {thing}?"),
        "direction.turn": ("¿En qué sentido gira {thing}?",),
        "direction.camera": ("¿En qué dirección se desplaza la cámara?",),
        "order.after": ("¿Qué ocurre justo después de que {event:subjunctive}?",),
        "order.before": ("¿Qué ocurre justo antes de que {event:subjunctive}?",),
        "order.which": ("¿Qué ocurre primero: {event}, o {other}?",),
        "order.is_before": ("¿Es cierto que {event} antes de que {other:subjunctive}?",),
        "first_last.first": ("¿Qué es lo primero que ocurre en el vídeo?", "¿Qué ocurre primero en el vídeo?"),
        "first_last.last": ("¿Qué es lo último que ocurre en el vídeo?", "¿Qué ocurre al final del vídeo?"),
        "duration.event": ("¿Durante cuánto tiempo {event:inverted}?", "¿Durante cuántos segundos {event:inverted}?"),
        "when.starts": ("¿A partir de qué segundo {event:inverted}?", "¿Cuándo empieza esto: {event}?"),
        "how_many_times.cuts": ("¿Cuántas veces cambia de escena el vídeo?", "¿Cuántos cortes hay en el vídeo?"),
        "how_many_times.blink": ("¿Cuántas veces parpadea {thing}?",),
        "how_many_times.move": ("¿Cuántas veces se mueve {thing}?",),
        "change.colour": ("¿Cómo cambia el color de {thing}?",),
        "change.count": ("¿Cómo cambia el número de {things:bare}?",),
        "change.size": ("¿Se ve {thing} más grande o más {thing:small} después que al principio?",),
        "change.is_recoloured": ("¿Cambia de color {thing}?", "¿Cambia el color de {thing} durante el vídeo?"),
        "comparison.larger": ("¿Qué es más grande al principio: {thing} o {other}?",),
        "comparison.further_left": ("¿Qué está más a la izquierda al principio: {thing} o {other}?",),
        "comparison.lasts_longer": ("¿Qué dura más: {event}, o {other}?",),
        "cannot_tell.sound": ("¿Qué sonido hace {thing}?",),
        "cannot_tell.weight": ("¿Cuánto pesa {thing}?",),
        "cannot_tell.smell": ("¿A qué huele {thing}?",),
        "cannot_tell.after": ("¿Qué ocurre después de que termine el vídeo?",),
        "cannot_tell.why": ("¿Por qué {event:inverted}?",),
        "cannot_tell.maker": ("¿Quién hizo {thing}?", "¿Quién dibujó {thing}?"),
    }

    def say(self, value: Value, form: str = "") -> str:
        match value:
            case Noun():
                return _noun(value, form)
            case Clause():
                return self._clause(value, form)
            case Colour(name):
                return _COLOURS[name][0]
            case Direction(name):
                return _DIRECTIONS[name]
            case Number(number):
                return str(number)
            case Length(seconds):
                return f"{_decimal(seconds)} segundos"
            case Instant(seconds):
                return f"a los {_decimal(seconds)} segundos"
            case YesNo(yes):
                return "sí" if yes else "no"
            case Change(before, after):
                return f"de {self.say(before)} a {self.say(after)}"
            case Growth(larger):
                return "se ve de mayor tamaño" if larger else "se ve de menor tamaño"
            case Unknown():
                return "no se puede saber por el vídeo"
            case Guess(name):
                return _GUESSES[name]

    def _clause(self, clause: Clause, form: str) -> str:
        """form: "" with its subject, "subjunctive" the same in that mood, "inverted" with the verb first, "predicate"
        without the subject."""
        if clause.counts:
            return _count_clause(clause, form)
        indicative, subjunctive, rest = _VERBS[clause.kind]
        subject = _noun(clause.subject) if clause.subject else "la cámara"
        feminine = _SHAPES[clause.subject.shape].feminine if clause.subject else True
        rest = rest.format(
            times=_TIMES[clause.times] if clause.times else "",
            colour=_COLOURS[clause.colour][feminine] if clause.colour else "",
            other=_noun(clause.other) if clause.other else "",
        )
        return _arranged(subject, indicative, subjunctive, rest, form)

    def narrate(self, clauses: list[str]) -> str:
        *firsts, last = clauses
        if len(firsts) < 2:
            return ", luego ".join(clauses)
        return f"{', luego '.join(firsts)} y, por último, {last}"

    def set_scene(self, background: Background, things: list[str], *, is_first: bool, many: bool) -> str:
        ground = _GROUNDS[background.kind].format(_light(background))
        opening = "sobre" if is_first else "tras un corte, sobre"
        return f"{opening} {ground} {'hay' if things else 'no hay'} {_listed(things)}"

    def step(self, clause: str, *, is_first: bool, is_last: bool) -> str:
        return f"{'primero' if is_first else 'por último' if is_last else 'luego'}, {clause}"

    def sentence(self, text: str) -> str:
        return capital(text) + "."

    def answer(self, text: str) -> str:
        return capital(text)

    def polish(self, text: str) -> str:
        """a el -> al, de el -> del."""
        return re.sub(r"\b([Aa]|[Dd]e) el\b", r"\1l", text)


def _arranged(subject: str, indicative: str, subjunctive: str, rest: str, form: str) -> str:
    parts = {
        "": (subject, indicative, rest),
        "subjunctive": (subject, subjunctive, rest),
        "inverted": (indicative, subject, rest),
        "predicate": (indicative, rest),
    }[form]
    return " ".join(part for part in parts if part)


def _count_clause(clause: Clause, form: str) -> str:
    assert clause.counts and clause.subject
    before, after = clause.counts
    subject = f"el número de {_noun(clause.subject, 'bare')}"
    verbs = ("aumenta", "aumente") if after > before else ("disminuye", "disminuya")
    return _arranged(subject, *verbs, f"de {before} a {after}", form)


def _noun(noun: Noun, form: str = "") -> str:
    """form: "" with its article or number; "bare" without; "how_many" after that question word; "small": the word
    "small" as it agrees with the noun."""
    word = _SHAPES[noun.shape]
    agreement = word.feminine + 2 * (noun.count > 1)
    if form == "small":
        return _SIZES["small"][agreement]
    words = [
        word.one if noun.count == 1 else word.many,
        _COLOURS[noun.colour][agreement] if noun.colour else "",
        _SIZES[noun.size][agreement] if noun.size else "",
        _TEXTURES[noun.texture] if noun.texture else "",
    ]
    bare = " ".join(w for w in words if w)
    if form == "bare":
        return bare
    if form == "how_many":
        return f"{'Cuántas' if word.feminine else 'Cuántos'} {bare}"
    if noun.new and noun.count > 1:
        return f"{_NUMBERS[noun.count]} {bare}"
    return f"{_ARTICLES[noun.new][agreement]} {bare}"


def _decimal(seconds: float) -> str:
    return f"{seconds:.1f}".replace(".", ",")


def _light(background: Background) -> str:
    return {45: "oscuro", 130: "gris medio", 215: "claro"}[background.level]


def _listed(things: list[str]) -> str:
    if len(things) < 2:
        return things[0] if things else "nada"
    return f"{', '.join(things[:-1])} y {things[-1]}"
