"""The command line of the server: `videollm serve`, which runs `python -m serve`."""

import argparse
import logging
import os
import re
import signal
import sys
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import Field, fields
from pathlib import Path
from socket import socket
from typing import Any

import uvicorn
from fastapi import FastAPI
from transformers.utils.logging import disable_progress_bar

from serve.api.app import create_app
from serve.config import Limits, ServerConfig
from serve.log import logged_stderr, start_logging
from serve.runtime.service import Service
from serve.security.connections import limited
from serve.web.app import close_tabs
from videollm.chat.load import load_to_chat
from videollm.cli.media import decoding_arguments, given_decoders
from videollm.cli.options import senses_arguments
from videollm.device_arguments import add_device_arguments, add_engine_arguments, loading_options
from videollm.errors import VideoLLMError
from videollm.live.source import StreamSource

# This is longer than clients keep an unused connection, so that none sends a request into one that is being closed.
KEEP_ALIVE_S = 30


def build_parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="videollm serve",
        description="Serve a model: a web page, and an OpenAI-style HTTP API.",
        parents=[senses_arguments(), decoding_arguments("it is not made")],
        allow_abbrev=False,
    )
    top.add_argument("--model", default="lite", help="a preset, a checkpoint directory or a hub id (default: lite)")
    add_device_arguments(top)
    top.add_argument("--host", default="127.0.0.1", help="address to listen on; all but loopback need --api-key")
    top.add_argument("--port", type=int, default=8000, help="0 takes a free port, which the log names (default: 8000)")
    top.add_argument(
        "--api-key",
        action="append",
        metavar="KEY",
        help="a key that may use the server; may be repeated. Better: keys in VIDEOLLM_API_KEYS, separated by commas",
    )
    top.add_argument("--allow-remote", action="store_true", help="fetch videos from public http(s) addresses")
    top.add_argument("--media-root", type=Path, metavar="DIR", help="let requests name files below this folder")
    top.add_argument("--index", metavar="DIR", help="the search index that /v1/videos/search reads")
    add_engine_arguments(top)
    top.add_argument(
        "--whisper",
        default=ServerConfig.whisper,
        metavar="DIR",
        help="directory of the Whisper model that transcribes (default: whisper-base, 133 MB, fetched once)",
    )
    top.add_argument("--cors-origin", action="append", metavar="URL", help="a site whose pages may call the server")
    top.add_argument(
        "--trusted-host",
        action="append",
        metavar="NAME",
        help="a name of this server in front of a TLS proxy, such as videos.example.org; may be repeated",
    )
    top.add_argument(
        "--camera",
        action="append",
        type=_camera,
        metavar="NAME=URL",
        help="a stream that requests may watch by its name: rtsp://, http:// or /dev/videoN; may be repeated",
    )
    limits = top.add_argument_group("limits", "the most that requests may take; further ones are refused")
    for limit in fields(Limits):
        limits.add_argument(
            f"--{limit.name.replace('_', '-')}",
            type=float if limit.type is float else int,
            default=limit.default,
            metavar="N",
            help=_limit_help(limit),
        )
    return top


def _camera(text: str) -> tuple[str, str]:
    name, separator, url = text.partition("=")
    if not separator or not re.fullmatch(r"[\w-]{1,64}", name):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=URL, with letters, digits, - and _ in the name")
    try:
        StreamSource(url=url)
    except VideoLLMError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return name, url


def _limit_help(limit: "Field[Any]") -> str:
    """Returns the help of a limit, with its default unless the sentence names it."""
    help = limit.metadata["help"]
    return help if limit.default is None else f"{help} (default: {limit.default})"


def config_of(options: argparse.Namespace) -> ServerConfig:
    """Returns the configuration that the options and VIDEOLLM_API_KEYS stand for. Raises ConfigError."""
    keys = [*(options.api_key or ()), *os.environ.get("VIDEOLLM_API_KEYS", "").split(",")]
    return ServerConfig(
        model=options.model,
        host=options.host,
        port=options.port,
        api_keys=tuple(key.strip() for key in keys if key.strip()),
        allow_remote=options.allow_remote,
        media_root=options.media_root,
        index=options.index,
        engine=options.engine,
        vllm_url=options.vllm_url,
        whisper=options.whisper,
        senses=options.senses,
        cors_origins=tuple(options.cors_origin or ()),
        trusted_hosts=tuple(name.lower() for name in options.trusted_host or ()),
        cameras=dict(options.camera or ()),
        decoders=given_decoders(options),
        steps=options.steps,
        size=options.size,
        limits=Limits(**{limit.name: getattr(options, limit.name) for limit in fields(Limits)}),
    )


def main(argv: Sequence[str] | None = None, *, api: bool = True) -> int:
    """Serves until a signal and returns the exit code. `api` says whether to serve the routes below /v1 beside the
    page."""
    start_logging()
    # Libraries address these messages to developers who call them. Operators of a server can do nothing about them.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    disable_progress_bar()
    try:
        options = build_parser().parse_args(argv)
        config = config_of(options)
        # The thread ends with its OpenMP threads, which would slow down others; see `run_in_new_thread`.
        with ThreadPoolExecutor(1) as loading:
            model = loading.submit(load_to_chat, config.model, **loading_options(options)).result()
            service = loading.submit(Service, config, model).result()
    except VideoLLMError as error:
        print(f"videollm serve: {error}", file=sys.stderr)
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn drains and then raises the signal again, which would make the exit code that of the signal.
        signal.signal(number, lambda *_: None)
    app = create_app(service, api=api)
    server = PageServer(
        uvicorn.Config(
            app,
            http=limited(config.limits),
            ws="none",
            host=config.host,
            port=config.port,
            access_log=False,
            server_header=False,
            log_config=None,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=config.limits.drain_s,
        ),
        app,
    )
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup sets it
        signal.signal(signal.SIGHUP, server.handle_exit)
    with logged_stderr():
        server.run()
    code = 0 if server.started else 1
    if not service.has_ended:
        # Python would wait for the thread that still computes, and nothing can interrupt one operation of torch.
        logging.getLogger(__name__).warning("the server ends in the middle of a computation")
        logging.shutdown()
        os._exit(code)
    return code


class PageServer(uvicorn.Server):
    """A uvicorn server that closes the connections of open tabs of the page and of listeners to streams, for which it
    would otherwise wait."""

    def __init__(self, config: uvicorn.Config, app: FastAPI):
        super().__init__(config)
        self.state = app.state

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        close_tabs(self.state.page)
        await self.state.service.streams.close()
        await super().shutdown(sockets)
