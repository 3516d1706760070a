"""The texts of the page, in each of its languages."""

from dataclasses import dataclass


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
    examples: dict[str, str]  # by their names in the catalog
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
    evidence: str
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


ENGLISH = Labels(
    language="en",
    other="中文",
    other_path="/zh/",
    tagline="Ask your videos. Every answer shows where it comes from.",
    theme="Light or dark",
    logout="Log out",
    video="Video",
    choose="Choose a video",
    no_choices="There is no video yet: add one",
    attach="Add videos or pictures",
    attached="In this conversation",
    remove="Remove {name}",
    drop="or drop or paste them anywhere",
    uploading="Uploading",
    upload_failed="The upload failed",
    unplayable="Your browser cannot play this file. You can still ask about it.",
    examples={"example": "Example clip"},
    empty="Add a video or a picture, then ask about it.",
    uploads_note="Only this browser can see your uploads. They are deleted after {hours} hours.",
    steps={
        "decode": "Reading the video",
        "encode": "Looking at the frames",
        "objects": "Looking for people and things",
        "speech": "Listening to what is said",
    },
    working="Working",
    left="about {seconds} s left",
    timeline="Timeline",
    no_timeline="The timeline appears when the video has been analysed.",
    settings="Settings",
    model="Model",
    sampling="Frames to use",
    sampling_auto="Automatic",
    sampling_fps="Per second",
    sampling_frames="In all",
    fps="Frames per second",
    frames="Frames in all",
    temperature="Temperature",
    temperature_note="0 gives the same answer every time",
    apply="Apply",
    chat="Chat",
    conversations="Conversations",
    no_conversations="Nothing has been asked yet. Conversations are listed here and can be gone back to.",
    no_conversation="This conversation does not exist any more.",
    new="New conversation",
    delete="Delete",
    deleted="Deleted: {title}",
    restore="Restore",
    ask="Ask about what you see",
    send="Ask",
    stop="Stop",
    stopped="Stopped.",
    same_answer="The answer stays the same: it was found in the video and not generated.",
    chat_hint="Ask anything about the video",
    questions=("What is in this video?", "What comes first?", "How does it end?"),
    evidence="Evidence",
    save_chat="Save the conversation",
    captions="Captions",
    captions_note="Describes the whole video, and each part with its times.",
    captions_make="Describe the video",
    whole="The whole video",
    save="Save as",
    transcript="Transcript",
    transcript_note="Writes down what is said, and finds people and things. The player then shows their boxes.",
    transcript_make="Listen and look",
    lanes="What is said and seen, and when",
    speech="speech",
    nobody_speaks="Nobody speaks.",
    no_sound="The video has no sound.",
    seen_at_once="Seen at once, at most: {seen}.",
    nothing_seen="nothing that the detector knows",
    search="Search",
    query="Describe a moment, such as: a cup of coffee",
    said="Words that are said",
    has="Things that are seen, such as: person, cup",
    search_in="Search in",
    search_here="This video",
    search_index="All indexed videos",
    search_make="Search",
    search_note="Finds moments by what they show, best first. Even the best may not match: check the score.",
    no_results="Nothing found.",
    summary="Summary",
    summary_note="A storyboard of the parts that best represent the video.",
    parts="Parts",
    summary_make="Make a storyboard",
    share="{percent} of the video looks most like this",
    receipt="What the model saw",
    receipt_note="After an answer, this shows the frames, tokens and time that it took.",
    receipt_question="Question",
    receipt_frames="Frames",
    receipt_range="Part of the video",
    receipt_segments="Segments",
    receipt_tokens="Tokens",
    receipt_time="Time",
    frames_used="{count} used",
    frames_lost="{count} lost",
    frames_shown="{shown} of {count} frames, evenly spread:",
    merged_from="merged from {count}",
    visual_tokens="{count} visual",
    prompt_tokens="{count} in the prompt",
    cached_tokens="{count} of them cached",
    completion_tokens="{count} in the answer",
    truncated="The answer reached its length limit, or segments were merged to fit the context.",
    ms={"decode": "decode", "encode": "encode", "first_token": "first token", "total": "total"},
    no_video="Choose a video first.",
    no_question="Write a question first.",
    no_query="Write what to search for first.",
    failed="That did not work",
    key="API key",
    key_note="This server requires an API key, the same as its API.",
    key_wrong="That is not a key of this server.",
    enter="Enter",
)

CHINESE = Labels(
    language="zh",
    other="English",
    other_path="/en/",
    tagline="向视频提问，每个回答都注明出处。",
    theme="浅色或深色",
    logout="退出",
    video="视频",
    choose="选择视频",
    no_choices="还没有视频，请添加",
    attach="添加视频或图片",
    attached="此对话中",
    remove="移除 {name}",
    drop="也可拖放或粘贴到页面任意处",
    uploading="正在上传",
    upload_failed="上传失败",
    unplayable="浏览器无法播放此文件，但仍可提问。",
    examples={"example": "示例视频"},
    empty="请添加视频或图片，然后提问。",
    uploads_note="上传的文件仅此浏览器可见，{hours} 小时后删除。",
    steps={"decode": "正在读取视频", "encode": "正在查看画面", "objects": "正在寻找人和物体", "speech": "正在听取语音"},
    working="正在处理",
    left="约剩 {seconds} 秒",
    timeline="时间轴",
    no_timeline="视频分析完成后将显示时间轴。",
    settings="设置",
    model="模型",
    sampling="使用的帧",
    sampling_auto="自动",
    sampling_fps="按每秒",
    sampling_frames="按总数",
    fps="每秒帧数",
    frames="总帧数",
    temperature="温度",
    temperature_note="为 0 时每次回答相同",
    apply="应用",
    chat="对话",
    conversations="历史对话",
    no_conversations="还没有提问。对话会列在这里，可随时返回。",
    no_conversation="此对话已不存在。",
    new="新对话",
    delete="删除",
    deleted="已删除：{title}",
    restore="恢复",
    ask="就所见内容提问",
    send="提问",
    stop="停止",
    stopped="已停止。",
    same_answer="回答不变：它来自视频中的发现，而非生成。",
    chat_hint="关于视频，想问什么都可以（默认模型只懂英语）",
    questions=("What is in this video?", "What comes first?", "How does it end?"),
    evidence="依据",
    save_chat="保存对话",
    captions="字幕",
    captions_note="描述整个视频，以及带时间的各个片段。",
    captions_make="描述视频",
    whole="整个视频",
    save="保存为",
    transcript="文字记录",
    transcript_note="记录视频中说的话，并找出人和物体。播放器随后会显示它们的位置框。",
    transcript_make="听并查看",
    lanes="何时说了什么、看到了什么",
    speech="语音",
    nobody_speaks="没有人说话。",
    no_sound="视频没有声音。",
    seen_at_once="同时最多看到：{seen}。",
    nothing_seen="没有检测器认识的东西",
    search="搜索",
    query="描述一个画面，例如：a cup of coffee",
    said="说到的话",
    has="看到的东西，例如：person, cup",
    search_in="搜索范围",
    search_here="当前视频",
    search_index="索引中的所有视频",
    search_make="搜索",
    search_note="按画面内容查找。结果按分数排序，最好的也可能不相关，请留意分数。",
    no_results="没有找到。",
    summary="摘要",
    summary_note="由最能代表视频的片段组成的分镜。",
    parts="片段数",
    summary_make="生成分镜",
    share="视频的 {percent} 与此最相似",
    receipt="模型所见",
    receipt_note="回答之后，这里显示所用的帧、词元和时间。",
    receipt_question="问题",
    receipt_frames="帧",
    receipt_range="视频范围",
    receipt_segments="片段",
    receipt_tokens="词元",
    receipt_time="用时",
    frames_used="使用 {count} 帧",
    frames_lost="丢失 {count} 帧",
    frames_shown="均匀显示 {count} 帧中的 {shown} 帧：",
    merged_from="由 {count} 个合并",
    visual_tokens="视觉 {count}",
    prompt_tokens="提示 {count}",
    cached_tokens="其中 {count} 个来自缓存",
    completion_tokens="回答 {count}",
    truncated="回答达到长度上限，或片段经过合并。",
    ms={"decode": "解码", "encode": "编码", "first_token": "首个词元", "total": "总计"},
    no_video="请先选择视频。",
    no_question="请先输入问题。",
    no_query="请先输入搜索内容。",
    failed="无法完成",
    key="API 密钥",
    key_note="此服务器需要密钥，与其 API 所用的相同。",
    key_wrong="这不是此服务器的密钥。",
    enter="进入",
)

LANGUAGES = {"en": ENGLISH, "zh": CHINESE}
