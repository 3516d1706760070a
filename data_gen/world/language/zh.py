"""The world in Chinese, in simplified characters."""

from typing import ClassVar

from data_gen.world.clip import Background
from data_gen.world.language.base import Language
from data_gen.world.meaning import (
    Change,
    Clause,
    Colour,
    Direction,
    Growth,
    Guess,
    Instant,
    Length,
    Noun,
    Number,
    Unknown,
    Value,
    YesNo,
)

# Shape -> its noun and its measure word.
_SHAPES = {
    "circle": ("圆形", "个"),
    "square": ("正方形", "个"),
    "triangle": ("三角形", "个"),
    "star": ("星星", "颗"),
    "heart": ("爱心", "颗"),
    "diamond": ("菱形", "个"),
    "cross": ("十字", "个"),
    "hexagon": ("六边形", "个"),
    "arrow": ("箭头", "个"),
    "house": ("房子", "座"),
    "tree": ("树", "棵"),
    "car": ("汽车", "辆"),
    "fish": ("鱼", "条"),
    "flower": ("花", "朵"),
    "cup": ("杯子", "个"),
    "boat": ("帆船", "艘"),
    "cloud": ("云", "朵"),
    "moon": ("月亮", "个"),
    "key": ("钥匙", "把"),
    "umbrella": ("雨伞", "把"),
    "mushroom": ("蘑菇", "个"),
    "butterfly": ("蝴蝶", "只"),
    "rocket": ("火箭", "枚"),
    "sun": ("太阳", "个"),
    "snowman": ("雪人", "个"),
    "telephone": ("电话", "部"),
    "plane": ("飞机", "架"),
    "envelope": ("信封", "个"),
    "pencil": ("铅笔", "支"),
    "snowflake": ("雪花", "片"),
}
_COLOURS = {
    "red": "红色",
    "green": "绿色",
    "blue": "蓝色",
    "yellow": "黄色",
    "orange": "橙色",
    "purple": "紫色",
    "white": "白色",
    "black": "黑色",
    "pink": "粉色",
    "brown": "棕色",
    "cyan": "青色",
}
_SIZES = {"small": "小", "large": "大"}
_TEXTURES = {"striped": "带条纹的", "dotted": "带圆点的", "checkered": "带格纹的"}
_NUMBERS = ("零", "一", "两", "三", "四", "五", "六")
_DIRECTIONS = {
    "left": "向左",
    "right": "向右",
    "up": "向上",
    "down": "向下",
    "up_left": "向左上方",
    "up_right": "向右上方",
    "down_left": "向左下方",
    "down_right": "向右下方",
    "clockwise": "顺时针方向",
    "counterclockwise": "逆时针方向",
}
_PREDICATES = {
    **{f"move_{name}": f"{words}移动" for name, words in _DIRECTIONS.items()},
    **{f"pan_{name}": f"{_DIRECTIONS[name]}平移" for name in ("left", "right", "up", "down")},
    "rotate_clockwise": "顺时针旋转",
    "rotate_counterclockwise": "逆时针旋转",
    "approach": "向镜头靠近",
    "recede": "远离镜头",
    "blink": "闪烁{times}",
    "change_colour": "变成{colour}",
    "appear": "出现",
    "disappear": "消失",
    "collide": "撞上{other}",
    "follow": "跟着{other}移动",
    "swap": "与{other}交换位置",
    "zoom_in": "推近",
    "zoom_out": "拉远",
}
_GROUNDS = {"plain": "{}纯色背景", "gradient": "{}渐变背景", "noise": "{}云雾状背景", "photo": "{}照片背景"}
_GUESSES = {
    "sound.whistle": "口哨声",
    "sound.drum": "鼓声",
    "sound.silence": "没有声音",
    "weight.gram": "一克",
    "weight.kilogram": "一公斤",
    "weight.ton": "一吨",
    "smell.roses": "玫瑰的气味",
    "smell.smoke": "烟味",
    "smell.coffee": "咖啡味",
    "after.grows": "所有东西都变大",
    "after.leaves": "所有东西都离开",
    "after.nothing": "不再发生任何事",
    "why.bored": "因为无聊",
    "why.pushed": "因为有人希望这样",
    "why.hurry": "为了节省时间",
    "maker.child": "一个孩子",
    "maker.painter": "一位画家",
    "maker.robot": "一个机器人",
}


class Chinese(Language):
    code = "zh"
    wordings: ClassVar[dict[str, tuple[str, ...]]] = {
        "existence.is_there": ("视频中有{thing}吗？", "视频中出现过{thing}吗？"),
        "count.start": ("视频最开始时能看到多少个物体？", "视频的第一帧里有几个物体？"),
        "count.end": ("视频结束时能看到多少个物体？", "视频的最后一帧里有几个物体？"),
        "count.group_start": ("开始时有{things:how_many}？",),
        "count.group_end": ("结束时有{things:how_many}？",),
        "colour.of": ("{thing}是什么颜色的？", "视频中的{thing}是什么颜色？"),
        "colour.actor": ("{event:predicate}的物体是什么颜色的？",),
        "direction.move": ("{thing}往哪个方向移动？", "{thing}朝什么方向移动？"),
        "direction.turn": ("{thing}往哪个方向旋转？",),
        "direction.camera": ("镜头往哪个方向平移？",),
        "order.after": ("{event}之后，紧接着发生了什么？",),
        "order.before": ("{event}之前，刚刚发生了什么？",),
        "order.which": ("哪件事先发生：{event}，还是{other}？",),
        "order.is_before": ("{event}是在{other}之前吗？",),
        "first_last.first": ("视频中最先发生的是什么？", "视频中首先发生了什么？"),
        "first_last.last": ("视频中最后发生的是什么？", "视频中最后发生了什么？"),
        "duration.event": ("{event}，这个过程持续了多长时间？", "{event}持续了几秒？"),
        "when.starts": ("{event}是从什么时候开始的？", "{event}开始于第几秒？"),
        "how_many_times.cuts": ("视频切换了几次场景？", "视频中有多少次镜头切换？"),
        "how_many_times.blink": ("{thing}闪烁了几次？",),
        "how_many_times.move": ("{thing}移动了几次？",),
        "change.colour": ("{thing}的颜色是怎样变化的？",),
        "change.count": ("{things:bare}的数量是怎样变化的？",),
        "change.size": ("与最初相比，{thing}后来看起来变大了还是变小了？",),
        "change.is_recoloured": ("{thing}的颜色有变化吗？", "{thing}变色了吗？"),
        "comparison.larger": ("开始时，{thing}和{other}哪个更大？",),
        "comparison.further_left": ("开始时，{thing}和{other}哪个更靠左？",),
        "comparison.lasts_longer": ("哪个过程持续得更久：{event}，还是{other}？",),
        "cannot_tell.sound": ("{thing}发出什么声音？",),
        "cannot_tell.weight": ("{thing}有多重？",),
        "cannot_tell.smell": ("{thing}闻起来是什么味道？",),
        "cannot_tell.after": ("视频结束以后会发生什么？",),
        "cannot_tell.why": ("为什么{event}？",),
        "cannot_tell.maker": ("{thing}是谁做的？", "{thing}是谁画的？"),
    }

    def say(self, value: Value, form: str = "") -> str:
        match value:
            case Noun():
                return _noun(value, form)
            case Clause():
                return _clause(value, form)
            case Colour(name):
                return _COLOURS[name]
            case Direction(name):
                return _DIRECTIONS[name]
            case Number(number):
                return str(number)
            case Length(seconds):
                return f"{seconds:.1f}秒"
            case Instant(seconds):
                return f"第{seconds:.1f}秒"
            case YesNo(yes):
                return "是" if yes else "否"
            case Change(before, after):
                return f"从{self.say(before)}变成{self.say(after)}"
            case Growth(larger):
                return "变大了" if larger else "变小了"
            case Unknown():
                return "从视频中无法判断"
            case Guess(name):
                return _GUESSES[name]

    def narrate(self, clauses: list[str]) -> str:
        *firsts, last = clauses
        if len(firsts) < 2:
            return "，然后".join(clauses)
        return f"{'，然后'.join(firsts)}，最后{last}"

    def set_scene(self, background: Background, things: list[str], *, is_first: bool, many: bool) -> str:
        ground = _GROUNDS[background.kind].format(_light(background))
        opening = "在" if is_first else "画面切换后，在"
        return f"{opening}{ground}上{'有' if things else '没有任何物体'}{_listed(things)}"

    def step(self, clause: str, *, is_first: bool, is_last: bool) -> str:
        return f"{'首先' if is_first else '最后' if is_last else '然后'}，{clause}"

    def sentence(self, text: str) -> str:
        return text + "。"

    def answer(self, text: str) -> str:
        return text

    def join(self, sentences: list[str]) -> str:
        return "".join(sentences)


def _clause(clause: Clause, form: str) -> str:
    """form: "" with its subject, "predicate" without."""
    if clause.counts:
        assert clause.subject
        before, after = clause.counts
        measure = _SHAPES[clause.subject.shape][1]
        grows = "增加" if after > before else "减少"
        return f"{_noun(clause.subject, 'bare')}的数量从{before}{measure}{grows}到{after}{measure}"
    predicate = _PREDICATES[clause.kind].format(
        times=f"{_NUMBERS[clause.times]}次" if clause.times else "",
        colour=_COLOURS[clause.colour] if clause.colour else "",
        other=_noun(clause.other) if clause.other else "",
    )
    if form == "predicate":
        return predicate
    return f"{_noun(clause.subject) if clause.subject else '镜头'}{predicate}"


def _noun(noun: Noun, form: str = "") -> str:
    """form: "" with number and measure word where it is new; "bare" without; "how_many" asks for the number."""
    name, measure = _SHAPES[noun.shape]
    parts = (
        _TEXTURES[noun.texture] if noun.texture else "",
        _COLOURS[noun.colour] if noun.colour else "",
        _SIZES[noun.size] if noun.size else "",
        name,
    )
    words = "".join(parts)
    if form == "how_many":
        return f"多少{measure}{words}"
    if noun.new and form != "bare":
        return f"{_NUMBERS[noun.count]}{measure}{words}"
    return words


def _light(background: Background) -> str:
    return {45: "深色", 130: "中灰色", 215: "浅色"}[background.level]


def _listed(things: list[str]) -> str:
    return "和".join(["、".join(things[:-1]), things[-1]]) if len(things) > 1 else "".join(things)
