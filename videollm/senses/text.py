"""Text: what is written in a video and where, by PP-OCRv6 (https://github.com/PaddlePaddle/PaddleOCR), in ONNX.

A detector gives each pixel a probability of text, with letters shrunk away from their borders (Liao et al. 2019,
https://arxiv.org/abs/1911.08947). Connected pixels are a line, which a recogniser reads. Lines are taken as horizontal:
text that is turned or curved is read badly or not at all.

Shapes: H rows, W columns, S steps of the recogniser, K characters.
"""

from collections.abc import Iterable
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime
import torch
from scipy import ndimage
from torch.nn import functional as F

from videollm import assets
from videollm.config import SamplingConfig
from videollm.senses.boxes import box_iou
from videollm.senses.finding import Finding
from videollm.video.decoding import iter_frames
from videollm.video.frames import Frames

ASSET = "pp-ocrv6-small"
SHORT_SIDE = 736  # of the pictures that the detector was tuned on, as published
MULTIPLE = 32  # what the detector's sides are divisible by
PIXEL, LINE = 0.3, 0.5  # least probability of a pixel, and of a line on average; published
GROWTH = 1.6  # a line's area by its circumference, times this, was shrunk away; published
LEAST_SIDE = 5  # pixels of a line
LINE_HEIGHT = 48  # pixels that the recogniser sees
SAME_PLACE, SAME_TEXT = 0.5, 0.6  # least overlap of boxes, and share of characters, of two readings of one line
READ = 0.7  # least mean probability of a line's characters: what is read worse is mostly texture

Box = tuple[float, float, float, float]


class TextSense:
    """Reads the text in frames. Raises AssetError where the weights cannot be fetched."""

    kind = "text"
    short_side = SHORT_SIDE

    def __init__(self, *, fps: float = 0.5, max_frames: int = 150):
        """fps, max_frames: frames that are read, thinned evenly where there would be more than max_frames."""
        folder = assets.fetch(ASSET)
        self._detector = _session(folder / "det.onnx")
        self._recogniser = _session(folder / "rec.onnx")
        # Number 0 is no character; the space comes last.
        characters = self._recogniser.get_modelmeta().custom_metadata_map["character"].split("\n")
        self.characters = ["", *characters, " "]
        self.sampling = SamplingConfig(fps=fps, max_frames=max_frames, near_keyframes=True)

    def __call__(self, path: str | Path) -> list[Finding]:
        """Lines in order of appearance. Raises the VideoError family."""
        return self.follow(iter_frames(path, self.sampling, short_side=self.short_side))

    def follow(self, pieces: Iterable[Frames]) -> list[Finding]:
        """The lines in decoded frames. One that is read again in the next frame goes on, with the text of its best
        reading."""
        found: list[Finding] = []
        shown: list[int] = []  # the places in `found` of the lines of the frame before
        last_s, step_s = 0.0, 1 / (self.sampling.fps or 1)
        for frames in pieces:
            for pixels, time_s in zip(frames.pixels, frames.times_s.tolist(), strict=True):
                step_s, last_s = time_s - last_s or step_s, time_s
                now: list[int] = []
                for text, score, box in self.read(pixels):
                    line = Finding(start_s=time_s, end_s=time_s, kind="text", text=text, score=score, box=box)
                    number = next((n for n in shown if n not in now and _is_same_line(found[n], line)), len(found))
                    if number == len(found):
                        found.append(line)
                    else:
                        before = found[number]
                        best = max(before, line, key=lambda reading: reading.score)
                        found[number] = replace(best, start_s=before.start_s, end_s=time_s)
                    now.append(number)
                shown = now
        return [replace(line, end_s=line.end_s + step_s) for line in found]

    def read(self, pixels: torch.Tensor) -> list[tuple[str, float, Box]]:
        """The lines of a picture, uint8 (3,H,W), RGB, from top to bottom: text, score, box in fractions of it."""
        _, height, width = pixels.shape
        lines = []
        for left, top, right, bottom in self._lines(pixels):
            text, score = self._recognise(pixels[:, top:bottom, left:right])
            if text and score >= READ:
                lines.append((text, score, (left / width, top / height, right / width, bottom / height)))
        return lines

    def _lines(self, pixels: torch.Tensor) -> list[tuple[int, int, int, int]]:
        """left, top, right, bottom in pixels of each line."""
        height, width = pixels.shape[1:]
        sides = [max(MULTIPLE, round(side / MULTIPLE) * MULTIPLE) for side in (height, width)]
        probability = _run(self._detector, _normalised(pixels, sides[0], sides[1]))[0, 0]
        regions = cast(Any, ndimage.label(probability > PIXEL))[0]  # its annotation forgets what it returns
        boxes = []
        for number, place in enumerate(ndimage.find_objects(regions), 1):
            rows, columns = place
            high, wide = rows.stop - rows.start, columns.stop - columns.start
            if min(high, wide) < LEAST_SIDE or probability[place][regions[place] == number].mean() < LINE:
                continue
            grown = high * wide * GROWTH / (2 * (high + wide))
            scale_x, scale_y = width / sides[1], height / sides[0]
            left, right = (columns.start - grown) * scale_x, (columns.stop + grown) * scale_x
            top, bottom = (rows.start - grown) * scale_y, (rows.stop + grown) * scale_y
            boxes.append(
                (max(0, round(left)), max(0, round(top)), min(width, round(right)), min(height, round(bottom)))
            )
        return sorted(boxes, key=lambda box: (box[1], box[0]))

    def _recognise(self, line: torch.Tensor) -> tuple[str, float]:
        """A line's text and the mean probability of its characters."""
        _, height, width = line.shape
        sized = _normalised(line, LINE_HEIGHT, max(LINE_HEIGHT, round(width * LINE_HEIGHT / height)))
        (probabilities,) = _run(self._recogniser, sized)  # (S,K)
        best = probabilities.argmax(-1)
        # CTC: a character that goes on is one character, unless a gap lies between.
        kept = [n for n, k in enumerate(best) if k and (n == 0 or k != best[n - 1])]
        text = "".join(self.characters[best[n]] for n in kept).strip()
        return text, float(probabilities.max(-1)[kept].mean()) if kept else 0.0


def _is_same_line(before: Finding, line: Finding) -> bool:
    """Whether two readings of neighbouring frames are of one line. A line is read a little differently from frame to
    frame, while another subtitle at the same place has another text."""
    if before.text == line.text:
        return True
    overlap = float(box_iou(torch.tensor([before.box]), torch.tensor([line.box])))
    return overlap >= SAME_PLACE and SequenceMatcher(None, before.text, line.text).ratio() >= SAME_TEXT


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _run(session: Any, pixels: np.ndarray) -> np.ndarray:
    """The one output of a network of one input."""
    return session.run(None, {"x": pixels})[0]


def _normalised(pixels: torch.Tensor, height: int, width: int) -> np.ndarray:
    """float32 (1,3,height,width) in [-1, 1], blue first, as the networks were trained."""
    sized = F.interpolate(pixels[None].float(), (height, width), mode="bilinear", align_corners=False, antialias=True)
    return (sized / 127.5 - 1).flip(1).numpy()
