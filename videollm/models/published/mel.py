"""Log-mel spectrograms of a sound's clips as ImageBind hears them (`imagebind/data.py`,
`load_and_transform_audio_data`): Kaldi's filter bank (torchaudio `compliance/kaldi.py`) in plain torch.

Shapes: C channels, N samples, K clips, M mel bins, S spectrogram frames.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

WINDOW_S, HOP_S = 0.025, 0.010
LOWEST_HZ = 20.0
PREEMPHASIS = 0.97
LOWPASS_WIDTH, ROLLOFF = 6, 0.99  # of torchaudio's resampling


@dataclass(frozen=True, kw_only=True)
class MelConfig:
    """ImageBind's settings, under its own names: the defaults are those of `load_and_transform_audio_data`.

    target_length: spectrogram frames of a clip, padded with zeros or cut. mean, std: of AudioSet's spectrograms.
    """

    num_mel_bins: int = 128
    target_length: int = 204
    sample_rate: int = 16000
    clip_duration: float = 2
    clips_per_video: int = 3
    mean: float = -4.268
    std: float = 9.138


def clip_spectrograms(
    waveform: torch.Tensor, rate: int, config: MelConfig | None = None, *, official_compat: bool = True
) -> torch.Tensor:
    """waveform (C,N) in [-1, 1] at `rate` Hz to (K,1,M,S), normalised log-mel spectrograms of its first channel.

    official_compat: each clip's mean is subtracted in place, so that a clip that overlaps an earlier one sees samples
    which were shifted already, with a step where the overlap ends. Without it every clip is computed from the sound.
    """
    config = config or MelConfig()
    waveform = resample(waveform, rate, config.sample_rate)
    if official_compat:
        waveform = waveform.clone()  # the caller's samples stay as they are
    clips = []
    for start_s, end_s in clip_times(waveform.shape[1] / config.sample_rate, config):
        clip = waveform[:, int(start_s * config.sample_rate) : int(end_s * config.sample_rate)]
        if official_compat:
            clip -= clip.mean()
        else:
            clip = clip - clip.mean()
        mel = log_mel(clip[0], config.sample_rate, config.num_mel_bins).mT
        clips.append(F.pad(mel, (0, config.target_length - mel.shape[1])))  # a negative pad cuts
    return (torch.stack(clips)[:, None] - config.mean) / config.std


def clip_times(duration_s: float, config: MelConfig) -> list[tuple[float, float]]:
    """Start and end of each clip, in seconds: spread evenly, the last one ends before the sound does
    (pytorchvideo 0.1.5 `ConstantClipsPerVideoSampler`; later versions divide by one less)."""
    last = max(duration_s - config.clip_duration, 0)
    starts = [last * i / config.clips_per_video for i in range(config.clips_per_video)]
    return [(start, start + config.clip_duration) for start in starts]


def resample(waveform: torch.Tensor, rate: int, new_rate: int) -> torch.Tensor:
    """(C,N) at `rate` Hz to (C, ceil(N · new_rate / rate)): windowed-sinc interpolation with a Hann window
    (torchaudio `functional.resample` with its defaults)."""
    if rate == new_rate:
        return waveform
    divisor = math.gcd(rate, new_rate)
    old, new = rate // divisor, new_rate // divisor
    cutoff = min(old, new) * ROLLOFF
    width = math.ceil(LOWPASS_WIDTH * old / cutoff)
    # The kernel is built in the precision of the samples, as there: float64 would change a quiet bin by 4e-4.
    taps = torch.arange(-width, width + old, dtype=waveform.dtype, device=waveform.device)[None, None] / old
    t = torch.arange(0, -new, -1, dtype=waveform.dtype, device=waveform.device)[:, None, None] / new + taps
    t = (t * cutoff).clamp(-LOWPASS_WIDTH, LOWPASS_WIDTH)
    window = torch.cos(t * math.pi / LOWPASS_WIDTH / 2) ** 2
    t = t * math.pi
    kernels = torch.where(t == 0, 1.0, t.sin() / t) * (window * (cutoff / old))  # (new, 1, 2 · width + old)
    padded = F.pad(waveform, (width, width + old))
    resampled = F.conv1d(padded[:, None], kernels, stride=old).mT.flatten(1)
    return resampled[:, : math.ceil(new * waveform.shape[1] / old)]


def log_mel(samples: torch.Tensor, rate: int, bins: int) -> torch.Tensor:
    """Kaldi's log filter bank energies of samples (N,): (frames, bins). A frame is a whole window of 25 ms, one every
    10 ms: mean removed, pre-emphasised, Hann window, power spectrum, triangular filters from 20 Hz to half the rate,
    natural logarithm."""
    window, hop = int(rate * WINDOW_S), int(rate * HOP_S)
    size = 1 << (window - 1).bit_length()  # the next power of two
    frames = samples.unfold(0, window, hop)
    frames = frames - frames.mean(1, keepdim=True)
    previous = F.pad(frames[:, None], (1, 0), mode="replicate")[:, 0, :-1]
    frames = (frames - PREEMPHASIS * previous) * torch.hann_window(window, periodic=False).to(frames)
    # The logarithm of a quiet bin beside a loud one shows the rounding of the float32 transform, 4e-4 at most, which
    # depends on the processor; with MKL_CBWR=COMPATIBLE the official numbers come out to 1e-7 on any.
    power = torch.fft.rfft(F.pad(frames, (0, size - window))).abs().square()
    # The filters have no weight at the last bin, half the rate.
    energies = power[:, :-1] @ _mel_filters(bins, size, rate).to(power).mT
    return energies.clamp(min=torch.finfo(energies.dtype).eps).log()


def _mel_filters(bins: int, size: int, rate: int) -> torch.Tensor:
    """(bins, size / 2): triangles of equal width on the mel scale, m(f) = 1127 ln(1 + f / 700)."""
    low, high = (1127.0 * math.log(1.0 + hz / 700.0) for hz in (LOWEST_HZ, 0.5 * rate))
    step = (high - low) / (bins + 1)
    # Left, middle and right of each triangle are rounded apart, as in torchaudio: 1e-4 of a quiet bin depends on it.
    left, middle, right = (low + (torch.arange(bins)[:, None] + i) * step for i in range(3))
    at = 1127.0 * (1.0 + rate / size * torch.arange(size // 2) / 700.0).log()[None]
    return torch.minimum((at - left) / (middle - left), (right - at) / (right - middle)).clamp(min=0)
