"""Small sums: addition, subtraction, one-step word problems, comparison, neighbours, sorting."""

from __future__ import annotations

import random

from . import strings
from .sample import Context, Split, Turn, assistant, fill, split_of, user, vary

_PLAIN = {
    "+": {
        "en": [
            "{a} + {b}", "{a}+{b}", "{a} + {b} =", "{a}+{b}=?", "{a} + {b} = ?", "What is {a} + {b}?",
            "What is {a} plus {b}?", "what's {a} + {b}", "Calculate {a} + {b}.", "Compute {a}+{b}",
            "Add {a} and {b}.", "How much is {a} plus {b}?", "Please add {a} and {b}.",
            "Can you tell me what {a} + {b} is?", "What is the sum of {a} and {b}?", "{a} plus {b}?",
            "Tell me {a} plus {b}.", "How much is {a}+{b}?", "and {a} + {b}?", "Please work out {a} + {b}.",
        ],
        "zh": [
            "{a}+{b}", "{a}+{b}=?", "{a} + {b} = ?", "{a}+{b}=", "{a}+{b}等于多少？", "{a}加{b}等于多少？",
            "{a}加{b}等于几？", "{a}加{b}是多少？", "计算{a}+{b}", "请计算{a}加{b}。", "请问{a}加{b}等于多少？",
            "算一下{a}+{b}", "帮我算一下{a}加{b}", "{a} + {b} 等于几？", "{a}与{b}的和是多少？", "{a}加上{b}是多少",
            "那{a}+{b}呢？", "{a}和{b}相加得多少？",
        ],
    },
    "-": {
        "en": [
            "{a} - {b}", "{a}-{b}", "{a} - {b} =", "{a}-{b}=?", "{a} - {b} = ?", "What is {a} - {b}?",
            "What is {a} minus {b}?", "what's {a} - {b}", "Calculate {a} - {b}.", "Compute {a}-{b}",
            "Subtract {b} from {a}.", "How much is {a} minus {b}?", "Take {b} away from {a}.",
            "Can you tell me what {a} - {b} is?", "What is {a} less {b}?", "{a} minus {b}?",
            "Tell me {a} minus {b}.", "How much is {a}-{b}?", "and {a} - {b}?", "Please work out {a} - {b}.",
        ],
        "zh": [
            "{a}-{b}", "{a}-{b}=?", "{a} - {b} = ?", "{a}-{b}=", "{a}-{b}等于多少？", "{a}减{b}等于多少？",
            "{a}减{b}等于几？", "{a}减{b}是多少？", "计算{a}-{b}", "请计算{a}减{b}。", "请问{a}减{b}等于多少？",
            "算一下{a}-{b}", "帮我算一下{a}减{b}", "{a} - {b} 等于几？", "{a}与{b}的差是多少？", "{a}减去{b}是多少",
            "那{a}-{b}呢？", "从{a}里减去{b}得多少？",
        ],
    },
}  # fmt: skip

_PROBLEMS = {
    "+": {
        "en": [
            "I have {a} {x} and buy {b} more. How many {x} do I have?",
            "{n} has {a} {x} and gets {b} more. How many {x} does {n} have now?",
            "There are {a} {x} in one box and {b} {x} in another. How many {x} are there?",
            "I had {a} {x}. {n} gave me {b} more. How many {x} do I have now?",
            "{n} found {a} {x} yesterday and {b} {x} today. How many {x} is that in all?",
            "If you have {a} {x} and I give you {b}, how many {x} do you have?",
        ],
        "zh": [
            "我有{a}个{x}，又买了{b}个，现在有几个{x}？",
            "{n}有{a}个{x}，又得到{b}个，{n}现在有多少个{x}？",
            "一个盒子里有{a}个{x}，另一个盒子里有{b}个{x}，一共有多少个{x}？",
            "我原来有{a}个{x}，{n}又给了我{b}个，我现在有多少个{x}？",
            "{n}昨天捡到{a}个{x}，今天捡到{b}个，一共捡到几个{x}？",
        ],
    },
    "-": {
        "en": [
            "I have {a} {x} and give away {b}. How many {x} are left?",
            "{n} has {a} {x} and loses {b}. How many {x} does {n} have now?",
            "There are {a} {x} in a box. I take out {b}. How many {x} are left in the box?",
            "I had {a} {x}. {n} took {b} of them. How many {x} do I have now?",
            "{n} baked {a} {x} and sold {b}. How many {x} are left?",
            "If I have {a} {x} and eat {b}, how many {x} are left?",
        ],
        "zh": [
            "我有{a}个{x}，送出去{b}个，还剩几个{x}？",
            "{n}有{a}个{x}，丢了{b}个，{n}还有多少个{x}？",
            "盒子里有{a}个{x}，拿走{b}个，还剩多少个{x}？",
            "我原来有{a}个{x}，{n}拿走了{b}个，我还有多少个{x}？",
            "{n}做了{a}个{x}，卖掉{b}个，还剩几个{x}？",
        ],
    },
}  # fmt: skip
_THINGS_EN = (
    "apples oranges pears plums books pens coins cards stamps eggs cakes cookies marbles balls toys stones shells "
    "flowers cups plates tickets candles boxes bottles stickers bananas lemons nuts chairs keys buttons pencils "
    "balloons sweets hats"
).split()
_THINGS_ZH = (
    "苹果 橘子 梨 桃子 鸡蛋 蛋糕 饼干 球 玩具 石头 贝壳 杯子 盘子 盒子 瓶子 香蕉 柠檬 核桃 钥匙 纽扣 气球 "
    "糖果 帽子 面包 包子 馒头 西瓜 风筝 硬币"
).split()


def pair(rng: random.Random, split: Split, op: str, most: int = 99) -> tuple[int, int]:
    """Two numbers of 0..most; one (a, op, b) in ten is never trained on."""
    while True:
        top = most if rng.random() < 0.75 else 12
        a, b = rng.randint(0, top), rng.randint(0, top)
        if split_of(f"{a}{op}{b}") == split:
            return a, b


def result(a: int, op: str, b: int) -> int:
    return a + b if op == "+" else a - b


def sum_(ctx: Context) -> Turn:
    op = ctx.choice(["+", "-"])
    a, b = pair(ctx.rng, ctx.split, op)
    question = fill(vary(ctx.rng, ctx.choice(_PLAIN[op][ctx.language])), a=str(a), b=str(b))
    return Turn("arithmetic", [user(question), assistant(f"{a} {op} {b} = {result(a, op, b)}")])


def problem(ctx: Context) -> Turn:
    op = ctx.choice(["+", "-"])
    a, b = pair(ctx.rng, ctx.split, op)
    if op == "-":
        a, b = max(a, b), min(a, b)
        while split_of(f"{a}{op}{b}") != ctx.split:
            a, b = pair(ctx.rng, ctx.split, op)
            a, b = max(a, b), min(a, b)
    thing = ctx.choice(_THINGS_ZH if ctx.zh else _THINGS_EN) if ctx.rng.random() < 0.7 else strings.word(ctx)
    template = vary(ctx.rng, ctx.choice(_PROBLEMS[op][ctx.language]))
    question = fill(template, a=str(a), b=str(b), x=thing, n=strings.name(ctx))
    return Turn("word_problem", [user(question), assistant(f"{a} {op} {b} = {result(a, op, b)}")])


_HARD = {
    "en": ["{x}", "{x} = ?", "What is {x}?", "Calculate {x}.", "How much is {x}?", "Compute {x}", "what's {x}"],
    "zh": ["{x}=?", "{x}等于多少？", "计算{x}", "{x}是多少？", "请计算{x}。", "算一下{x}"],
}
TOO_HARD = {
    "en": "That is too hard for me. I can only add and subtract numbers from 0 to 99.",
    "zh": "这个我不会算，我只会算 0 到 99 的加减法。",
}


def too_hard(ctx: Context) -> Turn | None:
    """A product, a quotient or large numbers: declined, unless the python tool is there."""
    if ctx.has_python:
        return None
    rng = ctx.rng
    if rng.random() < 0.6:
        times = ctx.choice([
            "*", "/", "×", "÷", "x",
        ] + (["乘", "除以", "乘以"] if ctx.zh else [" times ", " divided by "]))  # fmt: skip
        a, b = rng.randint(0, 10 ** rng.randint(1, 4)), rng.randint(1, 10 ** rng.randint(1, 4))
    else:
        times = ctx.choice(["+", "-"])
        a, b = rng.randint(100, 10 ** rng.randint(3, 5)), rng.randint(1, 10 ** rng.randint(1, 4))
        if rng.random() < 0.4:
            a, b = b, a
    gap = " " if rng.random() < 0.5 else ""
    question = fill(vary(rng, ctx.choice(_HARD[ctx.language])), x=f"{a}{gap}{times}{gap}{b}")
    return Turn("too_hard", [user(question), assistant(TOO_HARD[ctx.language])])


_LARGER = {
    "en": [
        "Which is larger, {a} or {b}?", "Which number is bigger: {a} or {b}?", "Is {a} or {b} larger?",
        "Larger: {a} or {b}?",
    ],
    "zh": ["{a}和{b}哪个大？", "{a}和{b}哪个更大？", "{a}与{b}，哪个数大？", "比较{a}和{b}，哪个大？"],
}  # fmt: skip
_SMALLER = {
    "en": [
        "Which is smaller, {a} or {b}?", "Which number is smaller: {a} or {b}?", "Is {a} or {b} smaller?",
        "Smaller: {a} or {b}?",
    ],
    "zh": ["{a}和{b}哪个小？", "{a}和{b}哪个更小？", "{a}与{b}，哪个数小？", "比较{a}和{b}，哪个小？"],
}  # fmt: skip


def comparison(ctx: Context) -> Turn:
    rng = ctx.rng
    larger = rng.random() < 0.5
    a, b = rng.randint(0, 999), rng.randint(0, 999)
    if rng.random() < 0.6:
        a, b = rng.randint(0, 99), rng.randint(0, 99)
    if a == b:
        b += 1
    question = fill(vary(rng, ctx.choice((_LARGER if larger else _SMALLER)[ctx.language])), a=str(a), b=str(b))
    first, second = (max(a, b), min(a, b)) if larger else (min(a, b), max(a, b))
    if ctx.zh:
        answer = f"{first}比{second}{'大' if larger else '小'}。"
    else:
        answer = f"{first} is {'larger' if larger else 'smaller'} than {second}."
    return Turn("compare", [user(question), assistant(answer)])


def neighbour(ctx: Context) -> Turn:
    rng = ctx.rng
    after = rng.random() < 0.5
    n = rng.randint(1, 99 if rng.random() < 0.6 else 998)
    if ctx.zh:
        options = (
            [
                "{n}后面的数是几？",
                "{n}的下一个数是多少？",
            ]
            if after
            else ["{n}前面的数是几？", "{n}的上一个数是多少？"]
        )
        answer = f"{n}的{'后' if after else '前'}面是{n + 1 if after else n - 1}。"
    else:
        options = (
            ["What number comes after {n}?", "What comes after {n}?", "What is the next number after {n}?"]
            if after
            else ["What number comes before {n}?", "What comes before {n}?", "What is the number before {n}?"]
        )
        answer = f"{n + 1 if after else n - 1} comes {'after' if after else 'before'} {n}."
    return Turn("next_number", [user(fill(vary(rng, ctx.choice(options)), n=str(n))), assistant(answer)])


_SORT = {
    "en": [
        "Sort these numbers: {x}", "Sort: {x}", "Put these numbers in order: {x}", "Please sort {x}",
        "Sort from small to large: {x}",
    ],
    "zh": ["排序：{x}", "把这些数从小到大排列：{x}", "请给这些数字排序：{x}", "从小到大排序：{x}"],
}  # fmt: skip


def sorting(ctx: Context) -> Turn:
    rng = ctx.rng
    numbers = rng.sample(range(100 if rng.random() < 0.7 else 10), rng.randint(3, 5))
    mark = ctx.choice([", ", " ", ","] if not ctx.zh else ["，", "、", ", ", " "])
    question = fill(vary(rng, ctx.choice(_SORT[ctx.language])), x=mark.join(map(str, numbers)))
    return Turn("sort", [user(question), assistant(mark.join(map(str, sorted(numbers))))])


_DAYS = {
    "en": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split(),
    "zh": "星期一 星期二 星期三 星期四 星期五 星期六 星期日".split(),
}
_MONTHS = {
    "en": "January February March April May June July August September October November December".split(),
    "zh": "一月 二月 三月 四月 五月 六月 七月 八月 九月 十月 十一月 十二月".split(),
}


def calendar(ctx: Context) -> Turn:
    rng = ctx.rng
    cycle = (_DAYS if rng.random() < 0.6 else _MONTHS)[ctx.language]
    what = {"en": "day" if len(cycle) == 7 else "month", "zh": "天" if len(cycle) == 7 else "月"}[ctx.language]
    after = rng.random() < 0.5
    i = rng.randrange(len(cycle))
    other = cycle[(i + (1 if after else -1)) % len(cycle)]
    if ctx.zh:
        side = "后" if after else "前"
        question = ctx.choice([f"{cycle[i]}{side}面是哪个{what}？" if what == "月" else f"{cycle[i]}{side}面是星期几？",
                               f"{cycle[i]}的{side}一{'个月' if what == '月' else '天'}是什么？"])  # fmt: skip
        answer = f"{cycle[i]}的{side}面是{other}。"
    else:
        side = "after" if after else "before"
        question = ctx.choice([f"What {what} comes {side} {cycle[i]}?", f"Which {what} is {side} {cycle[i]}?"])
        answer = f"{other} comes {side} {cycle[i]}."
    return Turn("calendar", [user(vary(rng, question)), assistant(answer)])
