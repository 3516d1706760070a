"""English nouns with their articles."""

SINGULARS = frozenset(["triceratops", "flandres", "pyrenees", "malinois"])
MASS_NOUNS = frozenset(
    ["armor", "bread", "broccoli", "cattle", "clothing", "cookware", "equipment", "food", "fruit", "furniture"]
) | {"guacamole", "mail"}


def noun(word: str) -> str:
    """Returns a word with its article: "a cat", "an acorn"; without one if it is a plural or a mass noun."""
    last = word.split()[-1]
    plural = last.endswith("s") and not last.endswith(("ss", "us", "is")) and last not in SINGULARS
    if plural or last in MASS_NOUNS:
        return word
    vowel = word[0] in "aeiou" and not word.startswith(("uni", "one"))
    return f"{'an' if vowel or word.startswith('hour') else 'a'} {word}"
