"""How commands load a model or an encoder and open a video with it."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from videollm.cli.options import Options, sampling_of
from videollm.cli.output import hide_progress_bars
from videollm.device_arguments import loading_options

if TYPE_CHECKING:
    from videollm.chat.session import ChatSession
    from videollm.config import ModelConfig
    from videollm.encoders.base import FrameEncoder
    from videollm.features.encode import EncodedVideo
    from videollm.model import Model


def open_session(options: Options) -> "ChatSession":
    """Loads the model and starts a conversation about the video. Raises the VideoLLMError family."""
    from videollm.chat.load import load_to_chat
    from videollm.video.decoding import probe

    hide_progress_bars()
    probe(options.video)  # reports a bad file before the seconds that loading a model takes
    model = load_to_chat(options.model, **loading_options(options))
    return new_session(model, options.video, options)


def new_session(model: "Model", video: str, options: Options) -> "ChatSession":
    """Starts a conversation and says on stderr which senses could not be used. Raises the VideoLLMError family."""
    from videollm.chat.session import ChatSession
    from videollm.features.cache import FeatureCache
    from videollm.inference.engines import make_engine

    session = ChatSession(
        model,
        video,
        engine=make_engine(model, loading_options(options)["vllm_url"]),
        sampling=sampling_of(options, model.config),
        features=FeatureCache(),
        senses=options.senses,
    )
    _report_problems(session.video)
    return session


def encode(options: Options, senses: Sequence[str] = ()) -> "tuple[FrameEncoder, ModelConfig, EncodedVideo]":
    """Encodes the video with the model's frame encoder, without loading its language model, and uses the senses."""
    from videollm.encoders.build import build_encoder
    from videollm.features.cache import FeatureCache
    from videollm.features.observe import encode_and_observe
    from videollm.model import config_of
    from videollm.video.decoding import probe

    hide_progress_bars()
    probe(options.video)
    config = config_of(options.model)
    encoder = build_encoder(config.encoder, options.device)
    sampling = sampling_of(options, config)
    video = encode_and_observe(options.video, encoder, sampling, senses, FeatureCache(), options.device)
    _report_problems(video)
    return encoder, config, video


def _report_problems(video: "EncodedVideo") -> None:
    for name, problem in video.findings.problems.items():
        print(f"without {name}: {problem}", file=sys.stderr)
