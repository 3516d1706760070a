"""Faces: where they are and when, without whose they are, by CenterFace (Xu et al. 2019, https://arxiv.org/abs/1911.03599).

The network gives each cell of 4 x 4 pixels the probability that a face has its middle there, the logarithms of the
face's height and width in cells, and the middle's place within the cell.

Shapes: T pictures, H rows, W columns, N faces.
"""

from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F

from videollm import assets
from videollm.config import SamplingConfig
from videollm.cpu.openvino_runtime import import_openvino
from videollm.senses.boxes import nms
from videollm.senses.finding import Finding
from videollm.senses.following import Following
from videollm.video.decoding import iter_frames
from videollm.video.frames import Frames

ASSET = "centerface"
SHORT_SIDE = 480  # of the pictures; a face of a tenth of that height is still found
MULTIPLE = 32  # what the sides are divisible by
CELL = 4  # pixels
OVERLAP = 0.3  # two boxes that overlap more than this are one face; published


class FaceSense:
    """Finds faces in frames and follows them. Raises AssetError where the weights cannot be fetched, and
    ModuleNotFoundError where OpenVINO, which runs them, has no wheel."""

    kind = "face"
    short_side = SHORT_SIDE

    def __init__(self, *, fps: float = 1.0, max_frames: int = 300):
        """fps, max_frames: frames that are looked at, thinned evenly where there would be more than max_frames."""
        openvino = import_openvino()
        network = openvino.Core().read_model(assets.fetch(ASSET) / "model.onnx")
        network.reshape([1, 3, -1, -1])
        properties = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        self._network = openvino.compile_model(network, "CPU", properties)
        self.sampling = SamplingConfig(fps=fps, max_frames=max_frames, near_keyframes=True)

    def __call__(self, path: str | Path) -> list[Finding]:
        """One finding for each face that is followed, in the order of appearance. Raises the VideoError family."""
        return self.follow(iter_frames(path, self.sampling, short_side=self.short_side))

    def follow(self, pieces: Iterable[Frames]) -> list[Finding]:
        """The faces in decoded frames."""
        following = self.following()
        for frames in pieces:
            following.add(frames)
        return following.findings()

    def following(self) -> Following:
        """Follows faces in decoded frames that come one piece after the other."""
        return Following(self.detect, "face")

    def detect(self, pixels: torch.Tensor, least: float) -> list[list[tuple[str, float, torch.Tensor]]]:
        """The faces of each picture, uint8 (T,3,H,W), RGB, with a score of at least `least`: name, score, box (4,) as
        fractions of the picture."""
        return [self._faces(picture, least) for picture in pixels]

    def _faces(self, picture: torch.Tensor, least: float) -> list[tuple[str, float, torch.Tensor]]:
        height, width = (max(MULTIPLE, round(side / MULTIPLE) * MULTIPLE) for side in picture.shape[1:])
        image = F.interpolate(picture[None].float(), (height, width), mode="bilinear", antialias=True)
        outputs = self._network.create_infer_request().infer([image.numpy()])
        probability, logarithms, places = (torch.from_numpy(outputs[number])[0] for number in range(3))
        row, column = (probability[0] >= least).nonzero(as_tuple=True)
        scores = probability[0, row, column]
        half_h, half_w = logarithms[:, row, column].exp() * CELL / 2
        y = (row + places[0, row, column] + 0.5) * CELL
        x = (column + places[1, row, column] + 0.5) * CELL
        boxes = torch.stack((x - half_w, y - half_h, x + half_w, y + half_h), -1)  # (N,4)
        kept = nms(boxes, scores, OVERLAP)
        size = torch.tensor([width, height, width, height])
        return [("face", float(scores[k]), (boxes[k] / size).clamp(0, 1)) for k in kept]
