"""The texts of the page, which each language gives."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ExampleText:
    """The title of an example clip, and a question about it."""

    title: str
    question: str


@dataclass(frozen=True, kw_only=True)
class Labels:
    language: str
    other: str  # the name of the other language, in that language
    other_path: str
    tagline: str
    theme: str
    logout: str
    video: str
    choose: str
    no_choices: str
    attach: str
    attached: str
    remove: str
    drop: str
    uploading: str
    upload_failed: str
    unplayable: str
    examples: dict[str, ExampleText]  # by their names in the catalog
    empty: str
    uploads_note: str
    steps: dict[str, str]  # what is in work, by the names of `load_video`
    working: str
    left: str
    timeline: str
    no_timeline: str
    settings: str
    model: str
    sampling: str
    sampling_auto: str
    sampling_fps: str
    sampling_frames: str
    fps: str
    frames: str
    temperature: str
    temperature_note: str
    apply: str
    chat: str
    conversations: str
    no_conversations: str
    no_conversation: str
    new: str
    delete: str
    deleted: str
    restore: str
    ask: str
    send: str
    stop: str
    stopped: str
    same_answer: str
    chat_hint: str
    questions: tuple[str, ...]
    try_examples: str
    sent_in_english: str
    english_only: str
    dropped_turns: str
    generated: str
    save_shown: str
    evidence: str
    copy: str
    clip: str
    clip_of: str
    save_chat: str
    captions: str
    captions_note: str
    captions_make: str
    whole: str
    save: str
    transcript: str
    transcript_note: str
    transcript_make: str
    lanes: str
    speech: str
    nobody_speaks: str
    no_sound: str
    seen_at_once: str
    nothing_seen: str
    search: str
    query: str
    said: str
    has: str
    has_example: str
    search_in: str
    search_here: str
    search_index: str
    search_make: str
    search_note: str
    no_results: str
    summary: str
    summary_note: str
    parts: str
    summary_make: str
    share: str
    live: str
    live_choose: str
    live_source: str
    live_source_note: str
    live_closed: str
    live_when: str
    live_when_note: str
    live_watch: str
    live_watched: str
    live_stop: str
    live_empty: str
    live_waiting: str
    live_status: dict[str, str]  # by `StreamStatus`
    live_frames: str
    live_alerts: str
    live_no_alerts: str
    live_states: dict[str, str]  # of an alert
    live_timeline: str
    live_note: str
    live_unclear: str
    live_ask: str
    live_about: str
    live_now: str
    live_minute: str
    live_all: str
    live_answers: str
    no_stream: str
    no_source: str
    receipt: str
    receipt_note: str
    receipt_question: str
    receipt_frames: str
    receipt_range: str
    receipt_segments: str
    receipt_tokens: str
    receipt_time: str
    frames_used: str
    frames_lost: str
    frames_shown: str
    merged_from: str
    visual_tokens: str
    prompt_tokens: str
    cached_tokens: str
    completion_tokens: str
    truncated: str
    ms: dict[str, str]
    no_video: str
    no_question: str
    no_query: str
    failed: str
    key: str
    key_note: str
    key_wrong: str
    enter: str
