"""Optional dependencies. A missing module is explained by the extra that installs it."""

import re
from importlib import metadata


def explain_missing(error: ModuleNotFoundError) -> str | None:
    """Returns one line that names the extra to install, or None if no extra has the module.

    None means that the error is a bug, which a caller should raise with its traceback.
    """
    extra = _extra_with((error.name or "").partition(".")[0])
    return f"{error}; it comes with pip install 'videollm[{extra}]'" if extra else None


def _extra_with(module: str) -> str | None:
    """Returns the first extra that lists the distribution of this module, or None."""
    for line in metadata.requires("videollm") or ():
        package, _, marker = line.partition(";")
        extra = re.search(r"extra == ['\"](\w+)", marker)
        # Requirements name distributions ("json-repair"), errors name modules ("json_repair").
        if extra and re.split(r"[^\w-]", package)[0].replace("-", "_").lower() == module:
            return extra[1]
    return None
