"""The command about streams: watch."""

import signal
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from videollm.cli.live_shapes import event_json, event_line
from videollm.cli.options import (
    Commands,
    Options,
    add_command,
    device_arguments,
    model_arguments,
    number,
    plain_text,
    sense_names,
)
from videollm.cli.output import hide_progress_bars, print_result, to_json
from videollm.device_arguments import loading_options
from videollm.errors import AssetError, ConfigError, VideoFormatError

if TYPE_CHECKING:
    from videollm.live.indexing import StreamIndexer
    from videollm.live.source import StreamSource
    from videollm.live.watcher import LiveWatcher
    from videollm.live.webhook import Webhook
    from videollm.model import Model
    from videollm.senses.objects import ObjectSense
    from videollm.senses.speech import SpeechSense

LIVE_SENSES = ("objects", "speech")


def register(commands: Commands) -> None:
    help = "watch a camera, a broadcast or a file that is played; lines on standard input are questions about it"
    parser = add_command(commands, "watch", watch, help, model_arguments(), device_arguments())
    parser.add_argument("source", help="rtsp://, http:// (HLS, FLV), /dev/videoN or a file")
    parser.add_argument(
        "--fps",
        type=number(most=60, above=True),
        default=1.0,
        metavar="N",
        help="look at N frames a second (default: 1)",
    )
    parser.add_argument(
        "--speed",
        type=number(most=10_000, above=True),
        default=1.0,
        metavar="N",
        help="play a file N times as fast; none of its frames is left out (default: 1)",
    )
    parser.add_argument("--follow", action="store_true", help="the file is still being written: watch what is added")
    parser.add_argument(
        "--timeout",
        type=number(most=3600, above=True),
        default=10.0,
        metavar="S",
        help="a source that sends nothing for S seconds is lost and opened again (default: 10)",
    )
    parser.add_argument(
        "--give-up",
        type=number(above=True),
        default=300.0,
        metavar="S",
        help="end when no frame has come for S seconds (default: 300)",
    )
    parser.add_argument(
        "--when",
        type=plain_text,
        action="append",
        default=[],
        metavar="TEXT",
        help='report when it happens: "a dog appears", "someone says fire", or a question for the language model that '
        'ends with "?"; may be repeated',
    )
    parser.add_argument(
        "--alerts", type=Path, metavar="FILE", help="append what --when reports to a file as JSON Lines"
    )
    parser.add_argument("--webhook", metavar="URL", help="send what --when reports to an http or https address by POST")
    parser.add_argument("--clips", type=Path, metavar="DIR", help="save a clip around each moment that --when reports")
    parser.add_argument(
        "--captions",
        type=Path,
        metavar="VTT",
        help="describe each segment, and write WebVTT captions with what is said",
    )
    parser.add_argument("--index", metavar="DIR", help="write all segments to a search index")
    parser.add_argument(
        "--senses",
        type=sense_names,
        metavar="NAMES",
        help="objects (find people and 79 kinds of things, and follow them), speech (write down what is said), "
        "objects,speech, speech=DIRECTORY for another Whisper, or none (default: the model's)",
    )


def watch(options: Options) -> None:
    from videollm.chat.load import load_to_chat
    from videollm.config import split_sense
    from videollm.live.captions import CaptionFile
    from videollm.live.memory import LiveSegment
    from videollm.live.reader import StreamEnded
    from videollm.live.source import StreamSource
    from videollm.live.watcher import LiveSentence, LiveWatcher
    from videollm.live.webhook import Webhook

    source = StreamSource(
        url=options.source, fps=options.fps, speed=options.speed, follow=options.follow, timeout_s=options.timeout
    )
    if not options.when and (options.alerts or options.webhook or options.clips):
        raise ConfigError("--alerts, --webhook and --clips are about what --when waits for; give --when TEXT")
    unfit = [sense for sense in options.senses or () if split_sense(sense)[0] not in LIVE_SENSES]
    if unfit:
        raise ConfigError(f"a stream is not watched for {', '.join(unfit)}; --senses takes objects, speech or none")
    hide_progress_bars()
    with ExitStack() as opened:
        captions = opened.enter_context(CaptionFile(options.captions)) if options.captions else None
        alerts = opened.enter_context(options.alerts.open("a", encoding="utf-8")) if options.alerts else None
        webhook = Webhook(options.webhook) if options.webhook else None
        if webhook is not None:
            opened.callback(webhook.close)
        if options.clips:
            options.clips.mkdir(parents=True, exist_ok=True)
        model = load_to_chat(options.model, **loading_options(options))
        # After the model: OpenVINO's telemetry forks when it converts the encoder, and LanceDB's threads end with that.
        objects, speech = _objects(options, model), _speech(options, model)
        index = _stream_indexer(options, source, listens=speech is not None) if options.index else None
        watcher = LiveWatcher(
            model,
            source,
            standing=options.when,
            describe=captions is not None,
            index=index,
            clips=options.clips,
            give_up_s=options.give_up,
            objects=objects,
            speech=speech,
        )
        for number in (signal.SIGINT, signal.SIGTERM):
            # In another thread, because the queue that it writes to may be locked by the one that is interrupted.
            signal.signal(number, lambda *_: threading.Thread(target=watcher.stop).start())
        threading.Thread(target=_read_questions, args=(watcher, sys.stdin), daemon=True).start()
        for event in watcher.events():
            value = event_json(event)
            print_result(options, value, event_line(event))
            sys.stdout.flush()
            if captions is not None:
                if isinstance(event, LiveSegment | LiveSentence):
                    captions.add(event.start, event.end, event.text)
                captions.write(watcher.said_until)
            if value["event"] in ("alert", "clip"):
                _send(value, alerts, webhook)
    if isinstance(event, StreamEnded) and event.failed:
        raise VideoFormatError(source.name, event.reason)


def _objects(options: Options, model: "Model") -> "ObjectSense | None":
    """Returns what looks for people and things. Without its weights, nobody does, which is said."""
    from videollm.live.objects import SENSE
    from videollm.senses.objects import ObjectSense

    if SENSE not in _senses(options, model):
        return None
    try:
        return ObjectSense(device=model.device)
    except AssetError as error:
        print(f"without people and things: {error}", file=sys.stderr)
        return None


def _speech(options: Options, model: "Model") -> "SpeechSense | None":
    """Returns what writes down what is said. Without its weights, nobody does, which is said."""
    from videollm.live.speech import SENSE

    directory = _senses(options, model).get(SENSE)
    if directory is None:
        return None
    from videollm.senses.speech import ASSET, SpeechSense

    try:
        return SpeechSense(directory or f"asset:{ASSET}", device=model.device)
    except AssetError as error:
        print(f"without speech: {error}", file=sys.stderr)
        return None


def _senses(options: Options, model: "Model") -> dict[str, str]:
    """Returns the senses in use, each with its directory or ""."""
    from videollm.config import split_sense

    return dict(split_sense(sense) for sense in (model.config.senses if options.senses is None else options.senses))


def _stream_indexer(options: Options, source: "StreamSource", *, listens: bool) -> "StreamIndexer":
    from videollm.live.indexing import StreamIndexer
    from videollm.retrieval.index import Index

    index = Index.create(options.index, options.model, device=options.device)
    return StreamIndexer(index, source.label, listens=listens)


def _send(value: dict[str, Any], alerts: TextIO | None, webhook: "Webhook | None") -> None:
    if alerts is not None:
        alerts.write(f"{to_json(value)}\n")
        alerts.flush()
    if webhook is not None:
        webhook.send(value)


def _read_questions(watcher: "LiveWatcher", lines: TextIO) -> None:
    from videollm.live.watcher import LiveQuestion

    for line in lines:
        if line.strip():
            watcher.ask(LiveQuestion(plain_text(line.strip())))
