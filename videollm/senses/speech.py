"""Speech: what is said in a video and when, by Whisper (Radford et al. 2022, https://arxiv.org/abs/2212.04356).

Whisper reads 30 seconds at a time. Where a window ends within a sentence, that sentence is read again as the beginning
of the next window, so that no word is cut. Whisper invents words where nobody speaks ("Thank you." over music), so
windows and sentences have to pass gates before they count.

Shapes: S samples, L tokens.
"""

import math
import zlib
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from videollm import assets
from videollm.device import resolve_device
from videollm.errors import CheckpointError, ConfigError
from videollm.senses.finding import Finding
from videollm.senses.windows import SILENCE_DB, SoundWindows, level_db
from videollm.video.audio import SAMPLE_RATE, AudioPiece, iter_audio

ASSET = "whisper-base"
WINDOW_S = 30.0  # the length that Whisper was trained on
TICK_S = 0.02  # the step of Whisper's time tokens
PROMPT_TOKENS = 223  # half of the text that Whisper's decoder holds, as in openai-whisper
STEP_S = 1.0  # a window begins at least this long after the one before, so that reading always ends


@dataclass(frozen=True, kw_only=True)
class SpeechGate:
    """What a window or a sentence must have to count as speech.

    no_speech: the highest probability of Whisper's no-speech token. log_probability: the least mean of a sentence's
    tokens. compression: the highest ratio of its text's size to that of its compressed text, above which it repeats
    itself. level_db: the least loudness of a window. The first three are openai-whisper's, which however drops a window
    only where both of the first two fail.
    """

    no_speech: float = 0.6
    log_probability: float = -1.0
    compression: float = 2.4
    level_db: float = SILENCE_DB


@dataclass(frozen=True, kw_only=True)
class SpeechTask:
    """How a recording is written down.

    language: an ISO 639-1 code; None detects it in the first window with speech. prompt: text that Whisper takes for
    what was said before, which shows it the spelling of names. translate: whether to write English whatever the
    language. temperature: of sampling; 0 takes the likeliest token.
    """

    language: str | None = None
    prompt: str = ""
    translate: bool = False
    temperature: float = 0.0


@dataclass(frozen=True, slots=True)
class SpokenSentence:
    """A sentence with what Whisper says about it.

    start_s, end_s: seconds from the video's first frame. tokens: its ids in Whisper's vocabulary. log_probability: the
    mean over its tokens. no_speech: the probability that nobody speaks in the window that holds it.
    """

    start_s: float
    end_s: float
    text: str
    language: str
    tokens: tuple[int, ...]
    log_probability: float
    no_speech: float

    @property
    def compression(self) -> float:
        """The text's size divided by its compressed size. Text that repeats itself has a high ratio."""
        return _compression(self.text)

    @property
    def finding(self) -> Finding:
        return Finding(
            start_s=self.start_s,
            end_s=self.end_s,
            kind="speech",
            text=self.text,
            score=math.exp(self.log_probability),
            language=self.language,
        )


class SpeechSense:
    """Transcribes speech with any Whisper model of transformers.

    source: a directory, or `asset:NAME`. language: an ISO 639-1 code; None detects it in the first window with speech.
    device: see `videollm.device.resolve_device`.
    Raises CheckpointError for a directory that holds no Whisper model, AssetError where the asset cannot be fetched.
    """

    kind = "speech"

    def __init__(
        self,
        source: str | Path = f"asset:{ASSET}",
        *,
        language: str | None = None,
        gate: SpeechGate | None = None,
        device: str | torch.device | None = None,
    ):
        # Takes seconds to import, and a server starts before anything is heard.
        from transformers import AutoTokenizer, WhisperFeatureExtractor, WhisperForConditionalGeneration

        scheme, _, name = str(source).partition(":")
        directory = assets.fetch(name) if scheme == "asset" else Path(source)
        try:
            self.model: Any = WhisperForConditionalGeneration.from_pretrained(directory, dtype=torch.float32)
            self.tokenizer: Any = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
            self.features: Any = WhisperFeatureExtractor.from_pretrained(directory)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{directory}: not a Whisper model ({str(error).splitlines()[0]})") from error
        self.model.eval().to(resolve_device(device))
        self.gate = gate or SpeechGate()
        self.languages: dict[str, int] = {
            token[2:-2]: number for token, number in getattr(self.model.generation_config, "lang_to_id", {}).items()
        }
        self.task = self.checked(SpeechTask(language=language))
        vocabulary = self.tokenizer.get_vocab()
        self._time_zero = self.tokenizer.convert_tokens_to_ids("<|notimestamps|>") + 1  # the token <|0.00|>
        # Models of 2022 call it <|nocaptions|>, later ones <|nospeech|>; where both exist, the higher number is in use.
        self._no_speech = max(vocabulary.get(name, -1) for name in ("<|nospeech|>", "<|nocaptions|>"))

    def checked(self, task: SpeechTask) -> SpeechTask:
        """Returns `task`. Raises ConfigError where this model does not know its language, or cannot translate."""
        if task.language is not None and task.language not in self.languages:
            raise ConfigError(f"language is {task.language!r}; this model knows {', '.join(sorted(self.languages))}")
        if task.translate and not self.languages:
            raise ConfigError("this model knows English only and cannot translate; use a multilingual Whisper model")
        return task

    def __call__(self, path: str | Path, track: int = 0) -> Iterator[Finding]:
        """Sentences as they are found. Raises the VideoError family, NoAudioStreamError among it."""
        yield from self.transcribe(iter_audio(path, track))

    def transcribe(self, pieces: Iterable[AudioPiece]) -> Iterator[Finding]:
        """Sentences in `pieces`, which are in order of time."""
        return (sentence.finding for sentence in self.sentences(pieces, self.task))

    @torch.inference_mode()
    def sentences(self, pieces: Iterable[AudioPiece], task: SpeechTask) -> Generator[SpokenSentence]:
        """Sentences in `pieces`, with what Whisper says about each. Raises ConfigError, see `checked`."""
        language = self.checked(task).language
        sound = SoundWindows(pieces, WINDOW_S)
        while (window := sound.current()) is not None:
            if level_db(window.samples) < self.gate.level_db:
                sound.advance(len(window.samples) / SAMPLE_RATE)
                continue
            encoded = self._encode(window.samples)
            no_speech, heard = self._listen(encoded)
            if no_speech > self.gate.no_speech:
                sound.advance(len(window.samples) / SAMPLE_RATE)
                continue
            spoken = language or heard
            sentences = self._decode(encoded, spoken, task)
            length_s = len(window.samples) / SAMPLE_RATE
            step_s = length_s
            if not sound.ends_after_current and len(sentences) > 1 and sentences[-1].start_s > STEP_S:
                # The last sentence may go on after the window, so it is read again from its beginning.
                step_s = sentences.pop().start_s
            for sentence in sentences:
                if self._counts(sentence):
                    language = language or heard
                    yield SpokenSentence(
                        window.start_s + sentence.start_s,
                        window.start_s + min(length_s, sentence.end_s or length_s),
                        sentence.text,
                        spoken,
                        sentence.tokens,
                        sentence.log_probability,
                        no_speech,
                    )
            sound.advance(step_s)

    def _encode(self, samples: torch.Tensor) -> Any:
        features = self.features(samples.numpy(), sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
        return self.model.model.encoder(features.to(self.model.device))

    def _listen(self, encoded: Any) -> tuple[float, str]:
        """The probability that nobody speaks, and the likeliest language, both from the first decoded position."""
        start = torch.tensor([[self.model.config.decoder_start_token_id]], device=self.model.device)
        logits = self.model(encoder_outputs=encoded, decoder_input_ids=start).logits[0, 0].float()
        silent = float(logits.softmax(-1)[self._no_speech]) if self._no_speech >= 0 else 0.0
        best = max(self.languages, key=lambda name: float(logits[self.languages[name]])) if self.languages else "en"
        return silent, best

    def _decode(self, encoded: Any, language: str, task: SpeechTask) -> list["_Sentence"]:
        """The sentences of one window. A last one without an end is marked as unfinished."""
        from transformers.generation.logits_process import WhisperTimeStampLogitsProcessor
        from transformers.generation.utils import GenerationMixin

        prompt = self._prompt(language, task)
        # Whisper's own `generate` seeks through long audio by itself, which a fixed window must not do; this one is
        # every model's.
        generate = cast(Any, GenerationMixin).generate
        made = generate(
            self.model,
            encoder_outputs=encoded,
            decoder_input_ids=torch.tensor([prompt], device=self.model.device),
            logits_processor=[WhisperTimeStampLogitsProcessor(self.model.generation_config, begin_index=len(prompt))],
            num_beams=1,
            do_sample=task.temperature > 0,
            temperature=task.temperature or None,
            return_dict_in_generate=True,
            output_logits=True,
        )
        ids = made.sequences[0, len(prompt) :]
        logits = torch.stack([step[0] for step in made.logits]).float()
        chosen = logits.log_softmax(-1).gather(1, ids[:, None])[:, 0]
        return self._sentences(ids.tolist(), chosen.tolist())

    def _prompt(self, language: str, task: SpeechTask) -> list[int]:
        """The tokens before the first that the model writes."""
        names = ["<|startoftranscript|>"]
        if self.languages:
            names += [f"<|{language}|>", "<|translate|>" if task.translate else "<|transcribe|>"]
        start = self.tokenizer.convert_tokens_to_ids(names)
        if not task.prompt.strip():
            return start
        before = self.tokenizer.encode(f" {task.prompt.strip()}", add_special_tokens=False)
        return [self.tokenizer.convert_tokens_to_ids("<|startofprev|>"), *before[-PROMPT_TOKENS:], *start]

    def _sentences(self, ids: list[int], log_probabilities: list[float]) -> list["_Sentence"]:
        """Cut tokens at time tokens: <|0.00|> Hello. <|1.20|><|1.20|> ..."""
        zero = self._time_zero
        sentences, start_s, words, scores = [], 0.0, [], []

        def close(end_s: float | None) -> None:
            if text := self.tokenizer.decode(words, skip_special_tokens=True).strip():
                sentences.append(_Sentence(start_s, end_s, text, tuple(words), sum(scores) / len(scores)))
            words.clear()
            scores.clear()

        for token, score in zip(ids, log_probabilities, strict=True):
            if token >= zero:
                time_s = (token - zero) * TICK_S
                if words:
                    close(time_s)
                start_s = time_s
            elif token != self.tokenizer.eos_token_id:
                words.append(token)
                scores.append(score)
        close(None)
        return sentences

    def _counts(self, sentence: "_Sentence") -> bool:
        repeats = _compression(sentence.text) > self.gate.compression
        return sentence.log_probability >= self.gate.log_probability and not repeats


@dataclass(frozen=True, slots=True)
class _Sentence:
    """Times count from the window's beginning. end_s is None where the model wrote no end."""

    start_s: float
    end_s: float | None
    text: str
    tokens: tuple[int, ...]
    log_probability: float


def _compression(text: str) -> float:
    data = text.encode()
    return len(data) / len(zlib.compress(data))
