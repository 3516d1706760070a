"""The components of the page, and the actions that their events call."""

from typing import Any

import gradio as gr
from gradio.themes import Base, colors, sizes

from serve.web import render
from serve.web.actions import Actions
from serve.web.labels import Labels
from serve.web.live_actions import LiveActions
from serve.web.live_layout import live_tab
from serve.web.view_actions import Update

FONTS = ["ui-sans-serif", "system-ui", "Noto Sans CJK SC", "WenQuanYi Micro Hei", "sans-serif"]
THEME = Base(
    primary_hue=colors.teal,
    neutral_hue=colors.slate,
    radius_size=sizes.radius_lg,
    font=FONTS,
    font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
).set(
    body_background_fill="*neutral_50",
    body_background_fill_dark="*neutral_950",
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_400",
    block_shadow="none",
    block_border_width="0px",
    block_background_fill="transparent",
    block_background_fill_dark="transparent",
    input_background_fill="white",
    input_background_fill_dark="*neutral_900",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_text_color="white",
)
# page.js dispatches these events, whose details are the data of the action.
EVENTS = ("ask", "open", "remove", "new", "enter", "delete", "restore", "follow")
BUS = "".join(f"element.addEventListener('vl-{name}', event => trigger('{name}', event.detail));" for name in EVENTS)


def layout(
    actions: Actions, live: LiveActions, labels: Labels, *, model: str, hours: float, logout: bool, indexed: bool
) -> gr.Blocks:
    """Builds the page.

    Args:
        hours: How long uploads are kept.
        logout: Whether to show a link to log out.
        indexed: Whether there is an index to search.
    """
    with gr.Blocks(title="videollm", analytics_enabled=False, fill_width=True) as page:
        shown, pending, chosen, conversation = gr.State(), gr.State(()), gr.State(False), gr.State()
        gr.HTML(render.header(labels, logout=logout))
        conversations = gr.HTML("", elem_id="conversations")
        bus = gr.HTML('<span class="vl-bus"></span>', elem_id="bus", js_on_load=BUS)
        with gr.Row(elem_classes="vl-columns"):
            with gr.Column(scale=5, min_width=320, elem_classes="vl-left"):
                player = gr.HTML(render.empty_player(labels.empty), elem_id="player")
                timeline = gr.HTML(render.note(labels.no_timeline), elem_id="timeline")
                lanes = gr.HTML("", elem_id="lanes")
                choices = gr.HTML(render.choices([], None, labels), elem_id="choice")
                with gr.Accordion(labels.settings, open=False, elem_id="settings"):
                    settings = _settings(labels, model)
                    apply = gr.Button(labels.apply, size="sm")
            with gr.Column(scale=6, min_width=320, elem_classes="vl-right"), gr.Tabs():
                with gr.Tab(labels.chat, id="chat"):
                    welcome = gr.HTML("", elem_id="welcome")
                    chat = gr.Chatbot(
                        show_label=False,
                        label=labels.chat,
                        container=False,
                        height="max(300px, 100vh - 330px)",
                        elem_id="chat",
                        editable="user",
                        buttons=["copy"],
                        layout="bubble",
                    )
                    with gr.Column(elem_id="composer"):
                        attached = gr.HTML("", elem_id="attached")
                        question = gr.Textbox(
                            placeholder=labels.ask,
                            label=labels.ask,
                            show_label=False,
                            container=False,
                            submit_btn=labels.send,
                            max_lines=5,
                            elem_id="question",
                        )
                        gr.HTML(render.attach(labels, hours), elem_id="attach")
                    saves = gr.HTML("", elem_id="saves")
                with gr.Tab(labels.captions, id="captions"):
                    gr.HTML(render.note(labels.captions_note))
                    describe = gr.Button(labels.captions_make, variant="primary", elem_id="describe")
                    captions = gr.HTML("", elem_id="captions", min_height=120)
                with gr.Tab(labels.transcript, id="transcript"):
                    gr.HTML(render.note(labels.transcript_note))
                    listen = gr.Button(labels.transcript_make, variant="primary", elem_id="listen")
                    transcript = gr.HTML("", elem_id="transcript", min_height=120)
                with gr.Tab(labels.search, id="search"):
                    query = gr.Textbox(
                        placeholder=labels.query,
                        label=labels.search_make,
                        show_label=False,
                        container=False,
                        submit_btn=labels.search_make,
                        elem_id="query",
                    )
                    with gr.Row(visible=indexed):
                        said = gr.Textbox(label=labels.said, elem_id="said")
                        has = gr.Textbox(label=labels.has, placeholder=labels.has_example, elem_id="has")
                    scope = gr.Radio(
                        [(labels.search_index, True), (labels.search_here, False)],
                        value=indexed,
                        label=labels.search_in,
                        visible=indexed,
                        elem_id="scope",
                    )
                    gr.HTML(render.note(labels.search_note))
                    found = gr.HTML("", elem_id="found", min_height=120)
                with gr.Tab(labels.summary, id="summary"):
                    gr.HTML(render.note(labels.summary_note))
                    with gr.Row(equal_height=True):
                        parts = gr.Slider(2, 12, value=6, step=1, label=labels.parts, elem_id="parts")
                        make = gr.Button(labels.summary_make, variant="primary", elem_id="summarize")
                    summary = gr.HTML("", elem_id="summary", min_height=120)
                live_tab(live, labels, bus)
                with gr.Tab(labels.receipt, id="receipt") as receipt_tab:
                    receipt = gr.HTML(render.note(labels.receipt_note), elem_id="receipt", min_height=120)

        # Progress is shown where it belongs, so that Gradio need not cover anything with its own.
        update: dict[str, Any] = {
            "outputs": list(
                Update(
                    shown=shown,
                    pending=pending,
                    chosen=chosen,
                    conversation=conversation,
                    choices=choices,
                    player=player,
                    timeline=timeline,
                    lanes=lanes,
                    transcript=transcript,
                    captions=captions,
                    summary=summary,
                    found=found,
                    receipt=receipt,
                    welcome=welcome,
                    chat=chat,
                    attached=attached,
                    question=question,
                    saves=saves,
                    conversations=conversations,
                )
            ),
            "show_progress": "hidden",
            "trigger_mode": "multiple",  # or else Gradio drops what happens while an earlier event is in work
        }
        here = [shown, *settings]
        asking: list[Any] = [
            question.submit(actions.ask, [question, shown, pending, conversation, *settings], **update),
            bus.ask(actions.ask_example, [shown, pending, conversation, *settings], **update),
            chat.retry(actions.retry, [shown, conversation, *settings], **update),
            chat.edit(actions.edit, [shown, conversation, *settings], **update),
        ]
        for event in asking:
            event.then(actions.enable_input, None, question, show_progress="hidden")
        question.stop(actions.stop, conversation, **update)
        chat.undo(actions.undo, [shown, conversation], **update)
        chat.like(actions.rate, conversation, **update)

        page.load(actions.load_page, settings, **update)
        bus.open(actions.open, [shown, pending, chosen, conversation, *settings], **update)
        bus.enter(actions.open_conversation, [conversation, *settings], **update)
        bus.new(actions.new_conversation, [shown, conversation], **update)
        bus.remove(actions.remove, [shown, pending, conversation], **update)
        bus.delete(actions.delete_conversation, [shown, conversation], **update)
        bus.restore(actions.restore_conversation, conversation, **update)

        apply.click(actions.refresh_timeline, here, timeline, show_progress="hidden")
        describe.click(actions.caption, here, captions, show_progress="hidden")
        listen.click(actions.sense, shown, [lanes, transcript], show_progress="hidden")
        for field in (query, said, has):
            field.submit(actions.search, [query, said, has, scope, *here], found, show_progress="hidden")
        make.click(actions.summarize, [parts, *here], summary, show_progress="hidden")
        receipt_tab.select(actions.show_receipt, conversation, receipt, show_progress="hidden")
    return page


def _settings(labels: Labels, model: str) -> list[Any]:
    """The inputs that `Actions` reads as its settings, in that order."""
    models = gr.Dropdown([model], value=model, label=labels.model, elem_id="model")
    sampling = gr.Radio(
        [(labels.sampling_auto, "auto"), (labels.sampling_fps, "fps"), (labels.sampling_frames, "frames")],
        value="auto",
        label=labels.sampling,
        elem_id="sampling",
    )
    fps = gr.Number(2, label=labels.fps, minimum=0.01, maximum=240, visible=False, elem_id="fps")
    frames = gr.Number(16, label=labels.frames, minimum=1, precision=0, visible=False, elem_id="frames")
    temperature = gr.Slider(
        0, 2, value=0, step=0.1, label=labels.temperature, info=labels.temperature_note, elem_id="temperature"
    )
    sampling.change(
        lambda chosen: (gr.update(visible=chosen == "fps"), gr.update(visible=chosen == "frames")),
        sampling,
        [fps, frames],
        show_progress="hidden",
    )
    return [models, sampling, fps, frames, temperature]
