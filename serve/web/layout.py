"""What is where on the page, and which event does what."""

from typing import Any

import gradio as gr
from gradio.themes import Base, colors, sizes

from serve.web import render
from serve.web.actions import Actions
from serve.web.conversation import PageVideo
from serve.web.labels import Labels

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
# The events of these are told to the page by page.js, which knows where they happen.
NAMED = "element.addEventListener('vl-named', event => trigger('named', event.detail));"


def layout(actions: Actions, labels: Labels, *, model: str, hours: float, leave: bool, indexed: bool) -> gr.Blocks:
    """hours: how long uploads are kept. leave: whether there is something to log out of. indexed: whether there is an
    index to search in."""
    with gr.Blocks(title="videollm", analytics_enabled=False, fill_width=True) as page:
        watched = gr.State(PageVideo())
        gr.HTML(render.header(labels, leave=leave))
        with gr.Row(elem_classes="vl-columns"):
            with gr.Column(scale=5, min_width=320, elem_classes="vl-left"):
                player = gr.HTML(render.waiting_player(), elem_id="player")
                timeline = gr.HTML(render.empty(labels.no_timeline), elem_id="timeline")
                choice = gr.Dropdown([], label=labels.video, elem_id="choice")
                drop = gr.HTML(render.dropzone(labels, hours), elem_id="drop", js_on_load=NAMED)
                with gr.Accordion(labels.settings, open=False, elem_id="settings"):
                    settings = _settings(labels, model)
                    again = gr.Button(labels.apply, size="sm")
            with gr.Column(scale=6, min_width=320, elem_classes="vl-right"), gr.Tabs():
                with gr.Tab(labels.chat, id="chat"):
                    chat = gr.Chatbot(
                        show_label=False,
                        container=False,
                        height="max(340px, 100vh - 310px)",
                        elem_id="chat",
                        editable="user",
                        buttons=["copy"],
                        feedback_options=None,
                        placeholder=labels.hello,
                        examples=[{"text": question} for question in labels.questions],
                        layout="bubble",
                    )
                    question = gr.Textbox(
                        placeholder=labels.ask,
                        label=labels.ask,
                        show_label=False,
                        container=False,
                        submit_btn=True,
                        max_lines=5,
                        elem_id="question",
                    )
                    saves = gr.HTML("", elem_id="saves")
                with gr.Tab(labels.captions, id="captions"):
                    gr.HTML(render.empty(labels.captions_note))
                    describe = gr.Button(labels.captions_make, variant="primary", elem_id="describe")
                    captions = gr.HTML("", elem_id="captions", min_height=120)
                with gr.Tab(labels.search, id="search"):
                    query = gr.Textbox(
                        placeholder=labels.query,
                        label=labels.search_make,
                        show_label=False,
                        container=False,
                        submit_btn=labels.search_make,
                        elem_id="query",
                    )
                    scope = gr.Radio(
                        [(labels.search_index, True), (labels.search_here, False)],
                        value=indexed,
                        label=labels.search_in,
                        visible=indexed,
                        elem_id="scope",
                    )
                    gr.HTML(render.empty(labels.search_note))
                    found = gr.HTML("", elem_id="found", min_height=120, js_on_load=NAMED)
                with gr.Tab(labels.summary, id="summary"):
                    gr.HTML(render.empty(labels.summary_note))
                    with gr.Row(equal_height=True):
                        parts = gr.Slider(2, 12, value=6, step=1, label=labels.parts, elem_id="parts")
                        make = gr.Button(labels.summary_make, variant="primary", elem_id="summarize")
                    summary = gr.HTML("", elem_id="summary", min_height=120)
                with gr.Tab(labels.saw, id="saw") as saw_tab:
                    saw = gr.HTML(render.empty(labels.saw_note), elem_id="saw", min_height=120)

        video: dict[str, Any] = {
            "outputs": [watched, choice, player, timeline, chat, saves, captions, summary, saw],
            "show_progress_on": timeline,
            "show_progress": "minimal",
        }
        seen = [watched, *settings]
        page.load(actions.load, settings, **video)
        choice.input(actions.open, [choice, *seen], **video)
        drop.named(actions.open_named, seen, **video)
        found.named(actions.open_named, seen, **video)
        again.click(actions.look_again, seen, timeline)

        talk: dict[str, Any] = {"outputs": [watched, chat, question, saves], "show_progress": "hidden"}
        asking: list[Any] = [
            question.submit(actions.ask, [question, *seen], **talk),
            chat.retry(actions.retry, seen, **talk),
            chat.edit(actions.edit, seen, **talk),
            chat.example_select(actions.ask_example, seen, **talk),
        ]
        for event in asking:
            event.then(actions.idle, None, question, show_progress="hidden")
        question.stop(actions.stopped, watched, cancels=asking, **talk)
        chat.undo(actions.undo, watched, **talk)
        chat.clear(actions.clear, watched, **talk)

        describe.click(actions.caption, seen, captions)
        query.submit(actions.search, [query, scope, *seen], found)
        make.click(actions.summarize, [parts, *seen], summary)
        saw_tab.select(actions.saw, watched, saw)
    return page


def _settings(labels: Labels, model: str) -> list[Any]:
    """In the order in which `Actions` reads them."""
    models = gr.Dropdown([model], value=model, label=labels.model, elem_id="model")
    looks = gr.Radio(
        [(labels.looks_auto, "auto"), (labels.looks_fps, "fps"), (labels.looks_frames, "frames")],
        value="auto",
        label=labels.looks,
        elem_id="looks",
    )
    fps = gr.Number(2, label=labels.fps, minimum=0.01, maximum=240, visible=False, elem_id="fps")
    frames = gr.Number(16, label=labels.frames, minimum=1, precision=0, visible=False, elem_id="frames")
    temperature = gr.Slider(
        0, 2, value=0, step=0.1, label=labels.temperature, info=labels.temperature_note, elem_id="temperature"
    )
    looks.change(
        lambda chosen: (gr.update(visible=chosen == "fps"), gr.update(visible=chosen == "frames")),
        looks,
        [fps, frames],
        show_progress="hidden",
    )
    return [models, looks, fps, frames, temperature]
