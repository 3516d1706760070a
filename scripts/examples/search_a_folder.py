"""Index a folder of videos and find moments in it by text.

python scripts/examples/search_a_folder.py "a cup of coffee" [FOLDER] [--index runs/example_index]
"""

import argparse
from pathlib import Path

from videollm.retrieval.index import Index
from videollm.retrieval.search import search

SAMPLES = Path(__file__).parents[1] / "samples"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("query")
    parser.add_argument("folder", nargs="?", default=SAMPLES)
    parser.add_argument("--index", default="runs/example_index")
    options = parser.parse_args()

    index = Index.create(options.index)
    report = index.update([str(options.folder)])  # decodes only what is new since the last run
    print(f"{report.added} videos added, {report.unchanged} unchanged")
    for moment in search(index, options.query, k=3):
        print(f"{moment.score:.2f}  {moment.start_s:.1f}-{moment.end_s:.1f} s  {Path(moment.path).name}")


if __name__ == "__main__":
    main()
