"""What the world is made of: shapes, colours, textures, kinds of events. The names appear in the annotations."""

from videollm.datasets.world_annotation import COMMON_COLOURS

RARE_WEIGHT = 0.1  # how often a rare thing is drawn for each time a common one is


# The number of turns within a full one that look the same, for shapes that have more than one; 0 if every turn does.
SYMMETRY = {"circle": 0, "square": 4, "star": 5, "diamond": 2, "cross": 4, "hexagon": 6, "flower": 5}
RARE_SHAPES = frozenset({"moon", "key", "umbrella", "mushroom", "butterfly", "rocket"})

# Glyphs that a symbol or emoji font may add to the shapes.
GLYPHS = {
    "sun": "☀",
    "snowman": "☃",
    "telephone": "☎",
    "plane": "✈",
    "envelope": "✉",
    "pencil": "✏",
    "snowflake": "❄",
}

Rgb = tuple[int, int, int]

COLOURS: dict[str, Rgb] = {
    "red": (222, 36, 36),
    "green": (36, 168, 60),
    "blue": (40, 84, 226),
    "yellow": (248, 220, 40),
    "orange": (246, 138, 20),
    "purple": (146, 50, 190),
    "white": (250, 250, 250),
    "black": (16, 16, 16),
    "pink": (250, 140, 196),
    "brown": (122, 74, 36),
    "cyan": (40, 206, 220),
}
RARE_COLOURS = frozenset(COLOURS) - frozenset(COMMON_COLOURS)

TEXTURES = ("plain", "striped", "dotted", "checkered")
SIZES = {"small": (0.085, 0.10), "large": (0.135, 0.155)}  # radius, as a share of the frame's width

# x to the right, y down, as in the frame.
DIRECTIONS: dict[str, tuple[float, float]] = {
    "left": (-1, 0),
    "right": (1, 0),
    "up": (0, -1),
    "down": (0, 1),
    "up_left": (-(0.5**0.5), -(0.5**0.5)),
    "up_right": (0.5**0.5, -(0.5**0.5)),
    "down_left": (-(0.5**0.5), 0.5**0.5),
    "down_right": (0.5**0.5, 0.5**0.5),
}

# Kind of event -> the kind that it is when time runs backwards.
REVERSED = {
    "move_left": "move_right",
    "move_right": "move_left",
    "move_up": "move_down",
    "move_down": "move_up",
    "move_up_left": "move_down_right",
    "move_down_right": "move_up_left",
    "move_up_right": "move_down_left",
    "move_down_left": "move_up_right",
    "approach": "recede",
    "recede": "approach",
    "rotate_clockwise": "rotate_counterclockwise",
    "rotate_counterclockwise": "rotate_clockwise",
    "blink": "blink",
    "change_colour": "change_colour",
    "appear": "disappear",
    "disappear": "appear",
    "collide": "collide",
    "follow": "follow",
    "swap": "swap",
    "count_change": "count_change",
    "pan_left": "pan_right",
    "pan_right": "pan_left",
    "pan_up": "pan_down",
    "pan_down": "pan_up",
    "zoom_in": "zoom_out",
    "zoom_out": "zoom_in",
}
KINDS = tuple(REVERSED)
RARE_KINDS = frozenset({"swap", "follow", "pan_up", "pan_down", "move_up_right", "move_down_left"})
CAMERA_KINDS = frozenset(kind for kind in KINDS if kind.startswith(("pan_", "zoom_")))

# Kinds of one family are each other's reverse or the same action; combinations are held out by family, so that a
# clip played backwards holds the combinations that it held forwards.
FAMILIES: tuple[frozenset[str], ...] = tuple(dict.fromkeys(frozenset({a, b}) for a, b in REVERSED.items()))
FAMILY_OF = {kind: number for number, family in enumerate(FAMILIES) for kind in family}
