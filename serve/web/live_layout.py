"""The components of the Live tab, and the actions that their events call."""

from typing import Any

import gradio as gr

from serve.web import render
from serve.web.labels import Labels
from serve.web.live_actions import LiveActions, LiveUpdate
from videollm.live.session import WINDOW_S
from videollm.live.window import NOW_S

EVER_S = 1e9  # longer than anything is remembered


def live_tab(actions: LiveActions, labels: Labels, bus: Any) -> None:
    """Builds the tab. bus: what triggers `follow`."""
    config = actions.service.config
    opens = labels.live_source_note if config.cameras or config.allow_remote else labels.live_closed
    with gr.Tab(labels.live, id="live", elem_id="live") as tab:
        turns = gr.State(())
        streams = gr.HTML("", elem_id="live-streams")
        with gr.Row(elem_classes="vl-live"):
            with gr.Column(scale=5, min_width=300):
                screen = gr.HTML(render.empty_player(labels.live_empty), elem_id="live-screen")
                with gr.Column(visible=False) as controls:
                    stop = gr.Button(labels.live_stop, size="sm", scale=0, elem_id="live-stop")
                    with gr.Column(elem_id="live-composer"):
                        question = gr.Textbox(
                            placeholder=labels.live_ask,
                            label=labels.live_ask,
                            show_label=False,
                            container=False,
                            submit_btn=labels.send,
                            elem_id="live-question",
                        )
                        about = gr.Radio(
                            [(labels.live_now, NOW_S), (labels.live_minute, WINDOW_S), (labels.live_all, EVER_S)],
                            value=NOW_S,
                            label=labels.live_about,
                            show_label=False,
                            container=False,
                            elem_id="live-about",
                        )
                    answers = gr.HTML("", elem_id="live-answers")
            with gr.Column(scale=6, min_width=300):
                with gr.Accordion(labels.live_choose, elem_id="live-setup") as setup:
                    source = gr.Dropdown(
                        list(config.cameras),
                        value=next(iter(config.cameras), None),
                        allow_custom_value=True,
                        label=labels.live_source,
                        info=opens,
                        elem_id="live-source",
                    )
                    when = gr.Textbox(
                        label=labels.live_when, info=labels.live_when_note, lines=2, max_lines=8, elem_id="live-when"
                    )
                    watch = gr.Button(labels.live_watch, variant="primary", size="md", elem_id="live-watch")
                alerts = gr.HTML("", elem_id="live-alerts")
                timeline = gr.HTML(render.note(labels.live_note), elem_id="live-timeline")

    update: dict[str, Any] = {
        "outputs": list(
            LiveUpdate(
                setup=setup,
                controls=controls,
                streams=streams,
                screen=screen,
                alerts=alerts,
                timeline=timeline,
                turns=turns,
                answers=answers,
                question=question,
            )
        ),
        "show_progress": "hidden",
        "trigger_mode": "multiple",
    }
    tab.select(actions.enter, None, **update)
    watch.click(actions.watch, [source, when], **update)
    bus.follow(actions.follow, None, **update)
    stop.click(actions.stop, None, **update)
    question.submit(actions.ask, [question, about, turns], **update)
