"""What a diffusion model makes, as a file that says that it is generated."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from videollm.video.writer import VideoWriter

# The term of IPTC for media that a trained model made, https://cv.iptc.org/newscodes/digitalsourcetype/.
GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    f'Iptc4xmpExt:DigitalSourceType="{GENERATED}"/></rdf:RDF></x:xmpmeta>'
)
COMMENT = f"DigitalSourceType: {GENERATED}"  # in files without XMP


@dataclass(frozen=True, eq=False)
class GeneratedImage:
    """A picture, uint8 (H,W,3)."""

    pixels: np.ndarray
    suffix = ".png"

    def write(self, target: Path) -> None:
        """Writes a PNG with the mark as XMP."""
        mark = PngInfo()
        mark.add_itxt("XML:com.adobe.xmp", XMP)
        Image.fromarray(self.pixels).save(target, "PNG", pnginfo=mark)


@dataclass(frozen=True, eq=False)
class GeneratedVideo:
    """Pictures, uint8 (T,H,W,3), of which `fps` are shown a second."""

    frames: np.ndarray
    fps: float
    suffix = ".mp4"

    def write(self, target: Path) -> None:
        """Writes an MP4 with the mark as its comment."""
        pictures = torch.from_numpy(self.frames).permute(0, 3, 1, 2)
        with VideoWriter(target, self.fps, comment=COMMENT) as writer:
            shown = ((picture, number / self.fps) for number, picture in enumerate(pictures))
            writer.write(shown, (), len(pictures) / self.fps)


@dataclass(frozen=True, eq=False)
class GeneratedAudio:
    """Samples (channels, samples) from -1 to 1, of which there are `rate` a second."""

    samples: np.ndarray
    rate: int
    suffix = ".wav"

    def write(self, target: Path) -> None:
        """Writes 16-bit WAV with the mark as its comment."""
        pcm = (self.samples.clip(-1, 1) * 32767).round().astype(np.int16)
        layout = "mono" if len(pcm) == 1 else "stereo"
        with av.open(str(target), "w", format="wav") as output:
            output.metadata["comment"] = COMMENT
            stream = output.add_stream("pcm_s16le", rate=self.rate)
            stream.layout = layout
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm.T).reshape(1, -1), format="s16", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = self.rate, 0, Fraction(1, self.rate)
            output.mux(stream.encode(frame))
            output.mux(stream.encode(None))


GeneratedMedia = GeneratedImage | GeneratedVideo | GeneratedAudio
