"""Write the questions and captions of a file of instruction data in other words, with a language model.

    python data_gen/paraphrase.py FILE --out FILE --base-url URL --model NAME ...

Each row keeps its video, times and task; its id gets the seed, so that both files can be joined. Captions, summaries
and creative texts are paraphrased with their questions; of other rows only the questions are, because their answers may
be checked word by word. Rows whose numbers, times, names, placeholders or choices do not survive are refused and
counted. Training reads the result as further rows (`--data FILE,FILE`). The same command continues a run that was
stopped.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

from data_gen import rewrite
from data_gen.generators.rewriting import paraphrase

TOLD = ("caption", "summary", "creative")  # families whose answers are free text


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description="Write a file of instruction data in other words, with a language model.")
    rewrite.add_arguments(top)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    options = parser().parse_args(argv)
    how = rewrite.Rewriting(
        program="paraphrase",
        prompt="paraphrase",
        done="paraphrased",
        row=lambda row: replace(row, id=f"{row.id}-p{options.seed}"),
        messages=lambda asked, row: paraphrase(
            asked, row.messages, row.language, answers=row.task.partition("/")[0] in TOLD
        ),
    )
    return rewrite.run(options, how)


if __name__ == "__main__":
    sys.exit(main())
