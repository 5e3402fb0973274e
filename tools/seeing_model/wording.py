"""The words that questions and answers are made of, in English and Chinese.

Every kind of question has several wordings and its answer one. `{in}` says which picture is meant (nothing, "in the
picture", "in the second picture"), `{pic}` is that picture itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from tools.default_model.sample import Language

SHAPES_ZH = {
    "circle": "圆形",
    "square": "正方形",
    "triangle": "三角形",
    "star": "星形",
    "cross": "十字形",
    "diamond": "菱形",
    "ring": "圆环",
}
COLOURS_ZH = {
    "red": "红色",
    "orange": "橙色",
    "yellow": "黄色",
    "green": "绿色",
    "blue": "蓝色",
    "purple": "紫色",
    "pink": "粉色",
    "grey": "灰色",
    "black": "黑色",
    "white": "白色",
}
# (column, row) from the top left -> where that is
CELLS = {
    "en": {
        (0, 0): "at the top left",
        (1, 0): "at the top",
        (2, 0): "at the top right",
        (0, 1): "on the left",
        (1, 1): "in the centre",
        (2, 1): "on the right",
        (0, 2): "at the bottom left",
        (1, 2): "at the bottom",
        (2, 2): "at the bottom right",
    },
    "zh": {
        (0, 0): "左上角",
        (1, 0): "上方",
        (2, 0): "右上角",
        (0, 1): "左边",
        (1, 1): "中间",
        (2, 1): "右边",
        (0, 2): "左下角",
        (1, 2): "下方",
        (2, 2): "右下角",
    },
}
ORDINALS = {"en": ("first", "second", "third"), "zh": ("第一张", "第二张", "第三张")}
IN_PICTURE = {
    "en": ("", "", "", " in the picture", " in this picture", " in the image"),
    "zh": ("", "", "图里", "图中", "图片里", "图片中"),
}
PICTURE = {"en": ("the picture", "this picture", "the image"), "zh": ("这张图", "图片", "这张图片")}

QUESTIONS: dict[str, dict[Language, Sequence[str]]] = {
    "colour": {
        "en": (
            "What colour is the {s}{in}?",
            "What color is the {s}{in}?",
            "Which colour does the {s} have{in}?",
            "Which colour is the {s}{in}?",
            "Tell me the colour of the {s}{in}.",
            "The {s}{in}: what colour is it?",
        ),
        "zh": (
            "{in}{s}是什么颜色？",
            "{in}的{s}是什么颜色的？",
            "{in}{s}的颜色是什么？",
            "{in}{s}什么颜色？",
            "请说出{in}{s}的颜色。",
        ),
    },
    "shape": {
        "en": (
            "Which shape is {c}{in}?",
            "What shape is the {c} one{in}?",
            "What shape is the {c} object{in}?",
            "What is the {c} shape{in}?",
            "What {c} shape do you see{in}?",
            "What is {c}{in}?",
        ),
        "zh": (
            "{in}{c}的是什么形状？",
            "{in}{c}的形状是什么？",
            "{in}哪个形状是{c}的？",
            "{in}{c}的东西是什么形状？",
            "{in}什么是{c}的？",
        ),
    },
    "count": {
        "en": (
            "How many shapes are there{in}?",
            "How many shapes do you see{in}?",
            "Count the shapes{in}.",
            "How many objects are there{in}?",
            "How many shapes{in}?",
            "What is the number of shapes{in}?",
        ),
        "zh": (
            "{in}有几个形状？",
            "{in}有多少个形状？",
            "{in}一共有几个图形？",
            "数一数{in}有几个形状。",
            "{in}有多少个图形？",
        ),
    },
    "count_shape": {
        "en": (
            "How many {ss} are there{in}?",
            "How many {ss} do you see{in}?",
            "Count the {ss}{in}.",
            "How many {ss}{in}?",
        ),
        "zh": ("{in}有几个{s}？", "{in}有多少个{s}？", "{in}一共有几个{s}？", "数一数{in}有几个{s}。"),
    },
    "count_colour": {
        "en": (
            "How many {c} shapes are there{in}?",
            "How many {c} shapes do you see{in}?",
            "Count the {c} shapes{in}.",
            "How many shapes are {c}{in}?",
            "How many {c} objects are there{in}?",
        ),
        "zh": (
            "{in}有几个{c}的形状？",
            "{in}有多少个{c}形状？",
            "{in}有几个形状是{c}的？",
            "数一数{in}有几个{c}的形状。",
            "{in}一共有几个{c}图形？",
        ),
    },
    "position": {
        "en": (
            "Where is the {t}{in}?",
            "In which part is the {t}{in}?",
            "Where do you see the {t}{in}?",
            "What is the position of the {t}{in}?",
            "Tell me where the {t} is{in}.",
        ),
        "zh": (
            "{in}{t}在哪里？",
            "{in}{t}在什么位置？",
            "{in}{t}在哪儿？",
            "{in}{t}的位置在哪里？",
            "请说出{in}{t}的位置。",
        ),
    },
    "what_at": {
        "en": ("What is {p}{in}?", "What do you see {p}{in}?", "Which shape is {p}{in}?", "What can be seen {p}{in}?"),
        "zh": ("{in}{p}是什么？", "{in}{p}有什么？", "{in}{p}是什么形状？", "{in}在{p}的是什么？"),
    },
    "side": {
        "en": (
            "Is the {t} to the left of the {u}{in}?",
            "Is the {t} left of the {u}{in}?",
            "Is the {t} on the left of the {u}{in}?",
        ),
        "zh": ("{in}{t}在{u}的左边吗？", "{in}{t}是不是在{u}的左边？", "{in}{t}在{u}左边吗？"),
    },
    "side_right": {
        "en": (
            "Is the {t} to the right of the {u}{in}?",
            "Is the {t} right of the {u}{in}?",
            "Is the {t} on the right of the {u}{in}?",
        ),
        "zh": ("{in}{t}在{u}的右边吗？", "{in}{t}是不是在{u}的右边？", "{in}{t}在{u}右边吗？"),
    },
    "above": {
        "en": ("Is the {t} above the {u}{in}?", "Is the {t} higher than the {u}{in}?", "Is the {t} over the {u}{in}?"),
        "zh": ("{in}{t}在{u}的上面吗？", "{in}{t}是不是在{u}的上面？", "{in}{t}在{u}上面吗？"),
    },
    "below": {
        "en": ("Is the {t} below the {u}{in}?", "Is the {t} lower than the {u}{in}?", "Is the {t} under the {u}{in}?"),
        "zh": ("{in}{t}在{u}的下面吗？", "{in}{t}是不是在{u}的下面？", "{in}{t}在{u}下面吗？"),
    },
    "further_left": {
        "en": ("Which is further left{in}, the {t} or the {u}?", "What is more to the left{in}, the {t} or the {u}?"),
        "zh": ("{in}{t}和{u}哪个更靠左？", "{in}{t}和{u}，哪个在左边？"),
    },
    "larger": {
        "en": (
            "Which is larger{in}, the {t} or the {u}?",
            "Which is bigger{in}, the {t} or the {u}?",
            "What is larger{in}, the {t} or the {u}?",
        ),
        "zh": ("{in}{t}和{u}哪个更大？", "{in}哪个更大，{t}还是{u}？", "{in}{t}和{u}，哪个大？"),
    },
    "largest": {
        "en": ("Which shape is the largest{in}?", "What is the largest shape{in}?", "Which shape is the biggest{in}?"),
        "zh": ("{in}哪个形状最大？", "{in}最大的形状是什么？", "{in}最大的是哪个？"),
    },
    "exists": {
        "en": (
            "Is there {a}{in}?",
            "Do you see {a}{in}?",
            "Can you see {a}{in}?",
            "Is {a} to be seen{in}?",
        ),
        "zh": ("{in}有{a}吗？", "{in}有没有{a}？", "{in}看得到{a}吗？", "{in}能看到{a}吗？"),
    },
    "background": {
        "en": (
            "What colour is the background{in}?",
            "What color is the background{in}?",
            "Which colour is the background{in}?",
            "Tell me the colour of the background{in}.",
            "What is the background colour{in}?",
        ),
        "zh": ("{in}背景是什么颜色？", "{in}背景是什么颜色的？", "{in}的背景颜色是什么？", "{in}背景什么颜色？"),
    },
    "read": {
        "en": (
            "What does it say{in}?",
            "What word is written{in}?",
            "What is written{in}?",
            "Read the word{in}.",
            "Read the text{in}.",
            "Which word do you see{in}?",
            "What is the text{in}?",
            "What does {pic} say?",
            "Read what is written{in}.",
        ),
        "zh": (
            "{in}写着什么？",
            "{in}写的是什么？",
            "{in}的字是什么？",
            "{in}的字，请读出来。",
            "{in}有什么字？",
            "{in}写了什么？",
        ),
    },
    "word_colour": {
        "en": (
            "What colour is the word{in}?",
            "What color is the text{in}?",
            "Which colour is the word written in{in}?",
            "What colour are the letters{in}?",
        ),
        "zh": ("{in}字是什么颜色的？", "{in}的字是什么颜色？", "{in}文字是什么颜色？"),
    },
    "describe": {
        "en": (
            "Describe {pic}.",
            "What is in {pic}?",
            "What do you see{in}?",
            "What is shown in {pic}?",
            "What can you see{in}?",
            "Tell me what is in {pic}.",
            "What does {pic} show?",
            "Please describe {pic}.",
        ),
        "zh": (
            "描述{pic}。",
            "请描述一下{pic}。",
            "{pic}里有什么？",
            "你在{pic}里看到了什么？",
            "{pic}上有什么？",
            "{pic}画的是什么？",
            "说说{pic}的内容。",
        ),
    },
    "which_shows": {
        "en": ("Which picture shows {a}?", "In which picture is there {a}?", "Which picture has {a}?"),
        "zh": ("哪张图里有{a}？", "哪张图片有{a}？", "{a}在哪张图里？"),
    },
    "which_says": {
        "en": ("Which picture says {w}?", "In which picture is {w} written?"),
        "zh": ("哪张图里写着{w}？", "哪张图片上写着{w}？"),
    },
    "which_background": {
        "en": ("Which picture has a {c} background?", "In which picture is the background {c}?"),
        "zh": ("哪张图的背景是{c}的？", "哪张图片的背景是{c}？"),
    },
    "which_more": {
        "en": (
            "Which picture has more shapes?",
            "In which picture are there more shapes?",
            "Which picture shows more shapes?",
        ),
        "zh": ("哪张图里的形状更多？", "哪张图片有更多的形状？", "哪张图的形状多？"),
    },
    "how_many_pictures": {
        "en": ("How many pictures are there?", "How many pictures do you see?", "How many images did I send?"),
        "zh": ("有几张图？", "你看到几张图片？", "我发了几张图？"),
    },
}
FOLLOW_UPS: dict[str, dict[Language, Sequence[str]]] = {
    "and_the": {
        "en": ("And the {s}?", "What about the {s}?", "And what about the {s}?"),
        "zh": ("那{s}呢？", "{s}呢？"),
    },
    "and_how_many": {"en": ("And how many {ss}?", "And {ss}?"), "zh": ("{s}有几个？", "那{s}有几个呢？")},
    "its_colour": {
        "en": ("What colour is it?", "What color is it?", "And its colour?"),
        "zh": ("它是什么颜色？", "它是什么颜色的？", "它的颜色呢？"),
    },
    "its_place": {"en": ("Where is it?", "And where is it?"), "zh": ("它在哪里？", "它在哪儿？")},
    "its_shape": {"en": ("What shape is it?", "And its shape?"), "zh": ("它是什么形状？", "它的形状呢？")},
}
NO_PICTURE = {"en": "I see no picture. Please send me one.", "zh": "我没有看到图片，请发一张给我。"}
TALK: dict[str, dict[Language, tuple[Sequence[str], str]]] = {
    "can": {
        "en": (
            ("Can you see?", "Can you see pictures?", "Can you look at pictures?", "Do you understand images?"),
            "I can name shapes, colours and places in simple pictures, count, and read a short word.",
        ),
        "zh": (
            ("你能看图吗？", "你会看图片吗？", "你看得懂图片吗？", "你能看见吗？"),
            "我能看懂简单的图片：说出形状、颜色和位置，会数数，还能读出短的单词。",
        ),
    },
    "size": {"en": ((), "I have about 4 million parameters."), "zh": ((), "我大约有四百万个参数。")},
}
INTENTS = ("greet", "who", "name", "real", "load", "size", "can", "how", "thanks", "bye", "ok", "sorry")


def plural(name: str) -> str:
    """ "crosses"."""
    return name + ("es" if name.endswith("s") else "s")


def join(parts: Sequence[str], language: Language) -> str:
    """A list within a sentence."""
    if language == "zh":
        return "、".join(parts)
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
