"""Commands that let the language model speak about a video: ask, chat, caption and plan."""

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videollm.cli.media import media_arguments, open_studio, write_media
from videollm.cli.models import new_session, open_session
from videollm.cli.options import (
    Commands,
    Options,
    add_command,
    device_arguments,
    engine_arguments,
    generation_arguments,
    generation_of,
    model_arguments,
    plain_text,
    sampling_arguments,
    sampling_of,
    senses_arguments,
)
from videollm.cli.output import format_score, format_span, hide_progress_bars, print_piece, print_result, to_json
from videollm.cli.shapes import CaptionJSON, CitationJSON, answer_json
from videollm.datasets.video_files import VIDEO_SUFFIXES
from videollm.device_arguments import loading_options
from videollm.errors import ConfigError, VideoLLMError, reason_of

if TYPE_CHECKING:
    from videollm.chat.answer import Answer
    from videollm.chat.session import ChatSession
    from videollm.decoders.studio import MediaStudio

CHAT_COMMANDS = "/evidence, /receipt, /video PATH, /save FILE, /quit"


def register(commands: Commands) -> None:
    one_video = (
        model_arguments(),
        engine_arguments(),
        device_arguments(),
        sampling_arguments(),
        senses_arguments(),
    )
    talking = (*one_video, generation_arguments(), media_arguments())
    parser = add_command(commands, "ask", ask, "ask one question about a video", *talking)
    parser.add_argument("video", nargs="?", help="leave it out with --index")
    parser.add_argument("question", type=plain_text)
    parser.add_argument("--index", metavar="DIR", help="ask about the videos of a search index; the answer cites them")
    parser.add_argument(
        "--server",
        metavar="URL",
        help="have a running `videollm serve` answer, which has its model loaded, such as http://127.0.0.1:8000/v1; "
        "its key is read from OPENAI_API_KEY",
    )

    parser = add_command(commands, "chat", chat, "talk about a video in the terminal", *talking)
    parser.add_argument("video")

    parser = add_command(commands, "caption", caption, "describe a video", *one_video)
    parser.add_argument("video")
    parser.add_argument("--dense", action="store_true", help="describe each part, with its times")

    parser = add_command(
        commands,
        "plan",
        plan,
        "show frames, tokens, memory and time before running a model",
        model_arguments(),
        device_arguments(language_model=False),
        sampling_arguments(),
    )
    parser.add_argument("video")


def ask(options: Options) -> None:
    if not options.question.strip():
        raise ConfigError("the question is empty; write what you want to know")
    if options.index:
        _ask_index(options)
        return
    if options.video is None:
        if Path(options.question).suffix.lower() in VIDEO_SUFFIXES:
            raise ConfigError(f"the question is missing; write it after the video: ask {options.question} 'QUESTION'")
        raise ConfigError("no video was given; name the video, or give --index DIR to ask about an indexed collection")
    on_text = None if options.json else print_piece
    files: list[dict[str, Any]] = []
    if options.server:
        answer = _ask_server(options, on_text)
    else:
        session = open_session(options)
        studio = open_studio(options, session.model)
        answer = session.ask(options.question, generation_of(options, session.model.config), on_text)
        files = write_media(studio, answer)
    print_result(options, _with_files(answer, files), f"\n{_listed(files)}{_evidence_and_receipt(answer)}")


def _ask_server(options: Options, on_text: Callable[[str], None] | None) -> "Answer":
    from videollm.chat.remote import ask_server

    for name in ("senses", "decoder", "device", "device_map", "load_in_4bit", "adapter", "url", "vllm_url"):
        if getattr(options, name):
            raise ConfigError(f"--{name.replace('_', '-')} is for this process; leave it out with --server")
    video = {"frames": options.frames, "fps": options.fps, "start": options.start_s, "end": options.end_s}
    request = {
        "model": options.model,
        "video": {name: value for name, value in video.items() if value is not None},
        "temperature": options.temperature,
        "top_p": options.top_p,
        "seed": options.seed,
        "max_tokens": options.max_new_tokens,
    }
    return ask_server(options.server, Path(options.video), options.question, request, on_text)


def _ask_index(options: Options) -> None:
    from videollm.chat.library import ask_library
    from videollm.chat.load import load_to_chat
    from videollm.inference.engines import make_engine
    from videollm.retrieval.index import Index

    if options.server:
        raise ConfigError("--server answers about one video; leave --index or --server out")
    if options.video is not None:
        raise ConfigError(f"--index asks about an indexed collection; leave the video {options.video} out")
    hide_progress_bars()
    Index.open(options.index)  # reports a missing index before the seconds that loading a model takes
    model = load_to_chat(options.model, **loading_options(options))
    generation = generation_of(options, model.config)
    engine = make_engine(model, options.vllm_url)
    answer = ask_library(model, Index.open(options.index, model.encoder), options.question, generation, engine=engine)
    rows = [asdict(CitationJSON.of(citation)) for citation in answer.citations]
    print_result(options, {"text": answer.text, "citations": rows}, answer.text)


def chat(options: Options) -> None:
    session, answer = open_session(options), None
    studio = open_studio(options, session.model)
    print(f"Ask about the video. {CHAT_COMMANDS}", file=sys.stderr)
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            return
        if line == "/quit":
            return
        try:
            session, answer = _chat_line(options, line, session, answer, studio)
        except VideoLLMError as error:
            print(error, file=sys.stderr)  # the conversation goes on
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            print(reason_of(error), file=sys.stderr)


def _chat_line(
    options: Options, line: str, session: "ChatSession", answer: "Answer | None", studio: "MediaStudio | None"
) -> "tuple[ChatSession, Answer | None]":
    """Carries out one line of the user and returns the session and the last answer after it."""
    command, _, argument = line.partition(" ")
    if command == "/video":
        return new_session(session.model, argument, options), None
    if command == "/save":
        _save(session, argument)
    elif command in ("/evidence", "/receipt"):
        print(to_json(answer_json(answer)[command.removeprefix("/")]) if answer else "ask something first")
    elif command.startswith("/"):
        print(f"commands: {CHAT_COMMANDS}")
    elif line:
        answer = session.ask(line, generation_of(options, session.model.config), None if options.json else print_piece)
        files = write_media(studio, answer)
        print(to_json(_with_files(answer, files)) if options.json else f"\n{_listed(files)}".removesuffix("\n"))
    return session, answer


def _with_files(answer: "Answer", files: list[dict[str, Any]]) -> dict[str, Any]:
    return answer_json(answer) | ({"media": files} if files else {})


def _listed(files: list[dict[str, Any]]) -> str:
    return "".join(f"{file['modality']}: {file['path']}\n" for file in files)


def _save(session: "ChatSession", name: str) -> None:
    """Writes the session whole or not at all. Raises ConfigError if it cannot be written."""
    from safetensors import SafetensorError

    if not name:
        raise ConfigError("/save needs the name of a file: /save trip.session")
    partial = Path(f"{name}.part")
    try:
        if Path(name).is_dir():
            raise IsADirectoryError(21, "is a directory")
        session.save(partial)
        partial.replace(name)
    except (OSError, ValueError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise ConfigError(f"{name} cannot be written ({reason_of(error)}); give the name of another file") from error


def caption(options: Options) -> None:
    from videollm.chat import caption as captions

    session = open_session(options)
    if not options.dense:
        answer = captions.caption(session.model, session.video, session.engine)
        print_result(options, answer_json(answer), f"{answer.text}\n{_evidence_and_receipt(answer)}")
        return
    found = captions.dense_captions(session.model, session.video, session.engine)
    rows = [asdict(CaptionJSON.of(caption)) for caption in found]
    print_result(options, {"captions": rows}, "\n".join(f"{format_span(c)}  {c.text}" for c in found))


def plan(options: Options) -> None:
    from videollm.chat.plan import make_plan
    from videollm.model import config_of

    made = make_plan(options.video, options.model, sampling_of(options, config_of(options.model)), options.device)
    print_result(options, asdict(made), str(made))


def _evidence_and_receipt(answer: "Answer") -> str:
    spans = [f"{format_span(e)} ({format_score(e.score)})" for e in answer.evidence]
    r = answer.receipt
    frames = f"{r.frames} frames" if r.thinned_from is None else f"{r.frames} of {r.thinned_from} frames"
    heard = "" if r.audio_tokens is None else f" + {r.audio_tokens} audio"
    text_tokens = r.prompt_tokens - r.visual_tokens - (r.audio_tokens or 0)
    tokens = f"{r.visual_tokens} visual{heard} + {text_tokens} text tokens"
    if not r.visual_tokens:
        tokens = f"{r.prompt_tokens} tokens"
    model = f"{r.model} {r.config_sha} on {r.device}, {frames}"
    return f"evidence: {', '.join(spans) or 'none'}\nreceipt:  {model}, {tokens}, {r.ms['total']:.0f} ms"
