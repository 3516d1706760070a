"""Make a world of clips whose contents are known exactly, to train and test temporal understanding.

    python data_gen/make_world.py --out DIR --split train=1600 val=200 test=200 [--contact-sheet]

Each split is written to DIR/NAME: annotations.jsonl, with one line per clip, and clips/ID.mp4. The same arguments give
the same bytes of annotation and the same pixels with any number of processes.
"""

import argparse
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from data_gen.world.config import WorldConfig
from data_gen.world.fonts import glyph_names
from data_gen.world.make import Job, jobs, run
from data_gen.world.sheet import write_sheet
from data_gen.world.sounds import KINDS, SPEAKER, WORDS
from data_gen.world.splits import SPLITS
from data_gen.world.vocabulary import GLYPHS
from videollm.datasets.world_annotation import ANNOTATIONS
from videollm.errors import ConfigError, VideoLLMError

JobRunner = Callable[[list[Job]], Iterator[list[str]]]

SOUNDS = {"tones": KINDS, "words": (*KINDS, *WORDS)}
_IMAGES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


class _OneLineParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Prints one line, as for every other bad input, instead of the whole usage."""
        self.exit(2, f"{self.prog}: {message}; see --help\n")


def parser() -> argparse.ArgumentParser:
    made = _OneLineParser(
        prog="make_world.py",
        description=(__doc__ or "").partition("\n")[0],
        epilog="splits: " + "; ".join(f"{name}: {split.about}" for name, split in SPLITS.items()),
    )
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder that gets a folder for each split")
    made.add_argument(
        "--split",
        nargs="+",
        default=["train"],
        metavar="NAME[=N]",
        help=f"one or more of {', '.join(SPLITS)}; without =N, --videos says how many (default: train)",
    )
    made.add_argument("--videos", type=int, metavar="N", help="clips in each split that has no number of its own")
    made.add_argument("--seed", type=int, default=0, help="of everything that is random (default: 0)")
    made.add_argument("--size", type=int, default=96, help="width and height in pixels, 64 to 224 (default: 96)")
    made.add_argument(
        "--fps", type=_fraction, default=Fraction(12), help="such as 12, 29.97 or 30000/1001 (default: 12)"
    )
    made.add_argument(
        "--seconds",
        type=float,
        nargs="+",
        default=[4.0],
        metavar="S",
        help="length of a clip, or the shortest and the longest, 2 to 60 (default: 4)",
    )
    made.add_argument(
        "--things",
        type=int,
        nargs=2,
        default=(2, 4),
        metavar=("LEAST", "MOST"),
        help="single things of a scene, 1 to 4 (default: 2 4)",
    )
    made.add_argument(
        "--sound",
        choices=SOUNDS,
        nargs="?",
        const="tones",
        help="give the files a sound track in which events are heard (tones, sirens, clicks, noise), and questions "
        f"about it; words: {SPEAKER} also says words",
    )
    made.add_argument("--photos", type=Path, metavar="DIR", help="a folder of pictures to use as backgrounds too")
    made.add_argument("--font", type=Path, metavar="FILE", help="a symbol or emoji font whose glyphs become shapes too")
    made.add_argument("--processes", type=int, default=os.cpu_count() or 1, metavar="N", help="default: all cores")
    made.add_argument("--contact-sheet", action="store_true", help="write DIR/NAME/contact_sheet.png")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    options = parser().parse_args(argv)
    try:
        config, counts = _checked(options)
        with _workers(options.processes) as made:
            for split, videos in counts.items():
                folder = options.out / split
                _make(made, jobs(config, folder, split, videos), folder, videos)
                if options.contact_sheet:
                    print(write_sheet(folder))
    except VideoLLMError as error:
        print(f"make_world.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _checked(options: argparse.Namespace) -> tuple[WorldConfig, dict[str, int]]:
    """Returns the configuration and the number of clips of each split.

    Raises ConfigError if a value is out of range or a split exists already.
    """
    if len(options.seconds) > 2:
        raise ConfigError(f"--seconds takes one or two numbers, got {len(options.seconds)}")
    if options.processes < 1:
        raise ConfigError(f"--processes is {options.processes}; it must be 1 or above")
    config = WorldConfig(
        seed=options.seed,
        size=options.size,
        fps=options.fps,
        seconds=(options.seconds[0], options.seconds[-1]),
        things=(options.things[0], options.things[1]),
        photos=_photos(options.photos) if options.photos else (),
        font=options.font,
        sounds=SOUNDS[options.sound] if options.sound else (),
    )
    if options.sound == "words" and shutil.which(SPEAKER) is None:
        raise ConfigError(f"--sound words needs {SPEAKER}, which is not installed; install it, or say --sound tones")
    if config.font and not glyph_names(config.font):
        raise ConfigError(f"{config.font} has none of the glyphs {' '.join(GLYPHS.values())}; give another --font")
    counts = dict(_count(text, options.videos) for text in options.split)
    for split in counts:
        done = options.out / split / ANNOTATIONS
        if done.exists():
            raise ConfigError(f"{done} exists; give another --out or remove the split's folder")
    return config, counts


def _count(text: str, videos: int | None) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if name not in SPLITS:
        raise ConfigError(f"there is no split {name!r}; choose from {', '.join(SPLITS)}")
    if not number and videos is None:
        raise ConfigError(f"the number of clips of {name} is missing; give --videos N, or --split {name}=N")
    if number and not number.isdecimal():
        raise ConfigError(f"{text!r} does not say how many clips; write {name}=N with a whole number")
    count = int(number) if number else videos
    assert count is not None
    if count < 1 or (SPLITS[name].pairs and count % 2):
        raise ConfigError(
            f"{name} cannot have {count} clips; give {'an even' if SPLITS[name].pairs else 'a'} number above 0"
        )
    return name, count


def _fraction(text: str) -> Fraction:
    """Returns the nearest fraction with a denominator up to 1001, so that the rates of broadcasting, 30000/1001, are
    exact."""
    try:
        return Fraction(text).limit_denominator(1001)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of frames a second") from None


def _photos(folder: Path) -> tuple[Path, ...]:
    if not folder.is_dir():
        raise ConfigError(f"--photos {folder} is not a folder")
    found = tuple(sorted(path for path in folder.iterdir() if path.suffix.lower() in _IMAGES))
    if not found:
        raise ConfigError(f"--photos {folder} has no picture; give a folder with {', '.join(sorted(_IMAGES))}")
    return found


def _make(made: JobRunner, work: list[Job], folder: Path, videos: int) -> None:
    """Makes the clips of one split. The annotation gets its final name when it is complete."""
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    unfinished = folder / f"{ANNOTATIONS}.part"
    with (
        unfinished.open("w", encoding="utf-8", newline="\n") as file,
        tqdm(total=videos, desc=folder.name, unit="clip", disable=None) as progress,
    ):
        for lines in made(work):
            file.writelines(f"{line}\n" for line in lines)
            progress.update(len(lines))
    path = unfinished.replace(folder / ANNOTATIONS)
    print(f"{path}: {videos} clips, {videos / (time.perf_counter() - began):.1f} a second")


@contextmanager
def _workers(processes: int) -> Iterator[JobRunner]:
    """Yields a function that turns jobs into lines of annotation, in the order of the jobs."""
    if processes == 1:
        yield lambda work: map(run, work)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield lambda work: pool.imap(run, work, chunksize=8)


if __name__ == "__main__":
    sys.exit(main())
