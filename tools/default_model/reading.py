"""Questions about facts in a passage that comes with the question."""

from __future__ import annotations

from . import memory, strings
from .sample import Context, Turn, assistant, fill, user

_OBJECTS = (
    "package key letter book lamp ring map ticket phone bag hat coat box bottle camera wallet passport knife bell "
    "cake clock coin sword crown rope basket violin parcel umbrella notebook"
).split()
_OBJECTS_ZH = (
    "包裹 钥匙 信 书 灯 戒指 地图 票 手机 包 帽子 外套 盒子 瓶子 相机 钱包 护照 刀 铃铛 蛋糕 钟 硬币 剑 王冠 绳子 "
    "篮子 小提琴 雨伞 笔记本 行李"
).split()
_PLACES = [
    "in room {r}", "in the {w}", "under the {w}", "on the {w}", "behind the {w}", "in {c}", "next to the {w}",
    "near {c}",
]  # fmt: skip
_PLACES_ZH = ["在{r}号房间", "在{w}里", "在{w}下面", "在{w}上", "在{w}后面", "在{c}", "在{w}旁边"]


def _fact(ctx: Context) -> tuple[str, list[str], str, str]:
    """(the sentence, ways to ask, the answer, what the question is about)"""
    draw = ctx.rng.random()
    if draw < 0.4:
        thing = ctx.choice(_OBJECTS_ZH if ctx.zh else _OBJECTS) if ctx.rng.random() < 0.8 else strings.word(ctx)
        place = fill(
            ctx.choice(_PLACES_ZH if ctx.zh else _PLACES),
            r=str(ctx.rng.randint(1, 999)),
            w=strings.word(ctx),
            c=strings.city(ctx),
        )
        if ctx.zh:
            return (
                f"{thing}{place}。",
                [f"{thing}在哪里？", f"{thing}在哪儿？", f"请问{thing}在哪里？"],
                f"{thing}{place}。",
                thing,
            )
        return (
            f"The {thing} is {place}.",
            [f"Where is the {thing}?", f"Where can I find the {thing}?"],
            f"The {thing} is {place}.",
            thing,
        )
    who = strings.name(ctx)
    if draw < 0.6:
        where = strings.city(ctx)
        if ctx.zh:
            return f"{who}住在{where}。", [f"{who}住在哪里？", f"{who}住在哪儿？"], f"{who}住在{where}。", who
        return (
            f"{who} lives in {where}.",
            [f"Where does {who} live?", f"In which city does {who} live?"],
            f"{who} lives in {where}.",
            who,
        )
    if draw < 0.75:
        age = str(ctx.rng.randint(1, 99))
        if ctx.zh:
            return f"{who}今年{age}岁。", [f"{who}多大了？", f"{who}几岁？"], f"{who}{age}岁。", who
        return (
            f"{who} is {age} years old.",
            [f"How old is {who}?", f"What is the age of {who}?"],
            f"{who} is {age} years old.",
            who,
        )
    if draw < 0.87:
        job = memory.job(ctx)
        if ctx.zh:
            return f"{who}的工作是{job}。", [f"{who}的工作是什么？", f"{who}是做什么的？"], f"{who}的工作是{job}。", who
        return (
            f"{who} works as a {job}.",
            [f"What is the job of {who}?", f"What does {who} work as?"],
            f"{who} works as a {job}.",
            who,
        )
    value = memory.code_word(ctx)
    if ctx.zh:
        return f"暗号是{value}。", ["暗号是什么？", "文中的暗号是什么？"], f"暗号是{value}。", "暗号"
    return f"The code word is {value}.", [
        "What is the code word?", "Which code word is given?",
    ], f"The code word is {value}.", "code word"  # fmt: skip


_FRAMES = ["{p}\n{q}", "Text: {p}\n{q}", "{p} {q}", "Read this: {p}\n\n{q}", "Text: {p}\nQuestion: {q}"]
_FRAMES_ZH = ["{p}\n{q}", "短文：{p}\n{q}", "{p}{q}", "阅读下面的内容：{p}\n\n{q}", "材料：{p}\n问题：{q}"]


def reading(ctx: Context, filler: int = 0) -> Turn:
    """One of several facts in a passage; `filler` is how many characters of other text surround them."""
    facts = []
    about: set[str] = set()
    for _ in range(ctx.rng.randint(1, 4)):
        fact = _fact(ctx)
        if fact[3] not in about:
            facts.append(fact)
            about.add(fact[3])
    sentences = [fact[0] for fact in facts]
    if filler == 0 and ctx.rng.random() < 0.3:
        filler = ctx.rng.randint(20, 150)
    while filler > 0:
        extra = ctx.choice(ctx.corpus.chinese_lines[ctx.split]) if ctx.zh else ctx.corpus.sentence(ctx.rng, ctx.split)
        sentences.insert(ctx.rng.randint(0, len(sentences)), extra)
        filler -= len(extra)
    chosen = facts[ctx.rng.randrange(len(facts))]
    passage = ("" if ctx.zh else " ").join(sentences)
    text = fill(ctx.choice(_FRAMES_ZH if ctx.zh else _FRAMES), p=passage, q=ctx.choice(chosen[1]))
    return Turn("reading", [user(text), assistant(chosen[2])])
