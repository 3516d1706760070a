"""Translate a file of instruction data with a language model.

    python data_gen/translate.py FILE --out FILE --language es --base-url URL --model NAME ...

Each row keeps its id, video, times and task. Rows whose numbers, times, placeholders or choices do not survive the
translation are refused and counted. The same command continues a run that was stopped.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

from data_gen import rewrite
from data_gen.generators.rewriting import translate


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description="Translate a file of instruction data with a language model.")
    rewrite.add_arguments(top)
    top.add_argument("--language", required=True, metavar="CODE", help="language to translate to, such as es or zh")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    options = parser().parse_args(argv)
    how = rewrite.Rewriting(
        program="translate",
        prompt="translation",
        done="translated",
        row=lambda row: replace(row, language=options.language),
        messages=lambda asked, row: translate(asked, row.messages, options.language),
    )
    return rewrite.run(options, how)


if __name__ == "__main__":
    sys.exit(main())
