"""Facts the user tells and asks for later, and facts in a passage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import strings
from .sample import Context, Turn, assistant, fill, user, vary


@dataclass(frozen=True)
class Slot:
    """One kind of fact. Lists are (English, Chinese); {x} is the value, {t} the thing it is about."""

    make: Callable[[Context], str]
    tell: tuple[list[str], list[str]]
    noted: tuple[str, str]
    ask: tuple[list[str], list[str]]
    answer: tuple[str, str]
    unknown: tuple[str, str]
    thing: Callable[[Context], str] | None = None


def _age(ctx: Context) -> str:
    return str(ctx.rng.randint(1, 120))


def _any_number(ctx: Context) -> str:
    return strings.number(ctx.rng)


def _word(ctx: Context) -> str:
    return strings.word(ctx)


def _pet(ctx: Context) -> str:
    return strings.name(ctx)


def code_word(ctx: Context) -> str:
    return strings.code(ctx.rng, ctx.split) if ctx.rng.random() < 0.4 else strings.word(ctx)


_JOBS = (
    "doctor nurse teacher baker farmer painter singer driver pilot lawyer cook writer gardener plumber carpenter "
    "sailor engineer dentist chemist tailor butcher clerk librarian waiter potter miner judge"
).split()
_JOBS_ZH = (
    "医生 护士 老师 面包师 农民 画家 歌手 司机 飞行员 律师 厨师 作家 园丁 木匠 水手 工程师 牙医 裁缝 法官 记者 "
    "会计 警察 消防员 程序员 翻译 导游"
).split()


def job(ctx: Context) -> str:
    if ctx.rng.random() < 0.5 and ctx.split == "train":
        return ctx.choice(_JOBS_ZH if ctx.zh else _JOBS)
    return strings.word(ctx)


_THINGS = (
    "colour color food drink book film song animal flower fruit game sport season country band teacher subject "
    "toy word letter dish tree car planet team writer street shop park river"
).split()
_THINGS_ZH = (
    "颜色 食物 饮料 书 电影 歌 动物 花 水果 游戏 运动 季节 国家 乐队 老师 科目 玩具 词 菜 树 车 星球 球队 作家 "
    "街道 商店 公园 河"
).split()


def _favourite(ctx: Context) -> str:
    if ctx.rng.random() < 0.8:
        return ctx.choice(_THINGS_ZH if ctx.zh else _THINGS)
    return strings.word(ctx)


_PETS = "dog cat bird horse fish rabbit hamster parrot turtle pony snake mouse".split()
_PETS_ZH = "狗 猫 鸟 马 鱼 兔子 仓鼠 鹦鹉 乌龟 小猫 小狗 蛇".split()


def _pet_kind(ctx: Context) -> str:
    return ctx.choice(_PETS_ZH if ctx.zh else _PETS)


_RELATIONS = (
    "brother sister mother father friend teacher boss wife husband son daughter neighbour uncle aunt cousin doctor"
).split()
_RELATIONS_ZH = "哥哥 姐姐 弟弟 妹妹 妈妈 爸爸 朋友 老师 老板 妻子 丈夫 儿子 女儿 邻居 叔叔 阿姨 同事 同学".split()


def _relation(ctx: Context) -> str:
    return ctx.choice(_RELATIONS_ZH if ctx.zh else _RELATIONS)


SLOTS: dict[str, Slot] = {
    "name": Slot(
        strings.name,
        (
            [
                "My name is {x}.", "I am {x}.", "I'm {x}.", "Hi, my name is {x}.", "Hello, I am {x}.",
                "You can call me {x}.", "Call me {x}.", "My name's {x}.", "Please call me {x}.",
                "Hello! My name is {x}.", "Hi, I'm {x}.", "Remember my name: {x}.",
            ],
            [
                "我叫{x}。", "我是{x}。", "我的名字是{x}。", "你好，我叫{x}。", "你好，我是{x}。", "叫我{x}吧。",
                "你可以叫我{x}。", "我的名字叫{x}。", "请叫我{x}。", "大家都叫我{x}。", "你好！我的名字叫{x}。",
            ],
        ),
        ("Nice to meet you, {x}.", "很高兴认识你，{x}。"),
        (
            [
                "What is my name?", "What's my name?", "Who am I?", "Do you remember my name?",
                "Can you tell me my name?", "What am I called?", "Do you know my name?", "Tell me my name.",
                "What did I say my name was?", "Do you still know my name?",
            ],
            [
                "我叫什么名字？", "我叫什么？", "我的名字是什么？", "我是谁？", "你还记得我的名字吗？",
                "你记得我叫什么吗？", "你知道我叫什么吗？", "说出我的名字。", "我刚才说我叫什么？",
                "请问我叫什么名字？",
            ],
        ),
        ("Your name is {x}.", "你叫{x}。"),
        ("You have not told me your name.", "你还没有告诉我你的名字。"),
    ),
    "city": Slot(
        strings.city,
        (
            [
                "I live in {x}.", "I am from {x}.", "My home is in {x}.", "I live in {x} now.", "My city is {x}.",
                "I come from {x}.", "I just moved to {x}.", "My home town is {x}.",
            ],
            [
                "我住在{x}。", "我来自{x}。", "我家在{x}。", "我现在住在{x}。", "我的城市是{x}。", "我刚搬到{x}。",
                "我是{x}人。", "我的家乡是{x}。",
            ],
        ),
        ("I will remember that you live in {x}.", "好的，我记住了，你住在{x}。"),
        (
            [
                "Where do I live?", "Which city do I live in?", "Where am I from?", "What is my city?",
                "Do you remember where I live?", "Where is my home?", "Which city am I from?",
                "Do you know where I live?", "In which city do I live?",
            ],
            [
                "我住在哪里？", "我住在哪儿？", "我住在哪个城市？", "我来自哪里？", "我家在哪里？",
                "你记得我住在哪里吗？", "我是哪里人？", "你知道我住哪儿吗？", "我的城市是哪个？",
            ],
        ),
        ("You live in {x}.", "你住在{x}。"),
        ("You have not told me where you live.", "你还没有告诉我你住在哪里。"),
    ),
    "favourite": Slot(
        _word,
        (
            [
                "My favourite {t} is {x}.", "My favorite {t} is {x}.", "The {t} I like best is {x}.",
                "My favourite {t} is called {x}.",
            ],
            ["我最喜欢的{t}是{x}。", "我最爱的{t}是{x}。", "我最喜欢的{t}叫{x}。"],
        ),
        ("I will remember that your favourite {t} is {x}.", "好的，我记住了，你最喜欢的{t}是{x}。"),
        (
            [
                "What is my favourite {t}?", "What's my favorite {t}?", "Which {t} do I like best?",
                "Do you remember my favourite {t}?", "Tell me my favourite {t}.",
            ],
            ["我最喜欢的{t}是什么？", "我最喜欢什么{t}？", "你记得我最喜欢的{t}吗？", "我最爱的{t}是什么？"],
        ),
        ("Your favourite {t} is {x}.", "你最喜欢的{t}是{x}。"),
        ("You have not told me your favourite {t}.", "你还没有告诉我你最喜欢的{t}。"),
        _favourite,
    ),
    "number": Slot(
        _any_number,
        (
            [
                "My favourite number is {x}.", "My lucky number is {x}.", "Remember the number {x}.",
                "My number is {x}.", "Keep the number {x} in mind.", "Please remember this number: {x}",
            ],
            [
                "我最喜欢的数字是{x}。", "我的幸运数字是{x}。", "请记住数字{x}。", "我的号码是{x}。",
                "记住这个数字：{x}", "请记住：{x}",
            ],
        ),
        ("I will remember the number {x}.", "好的，我记住了数字{x}。"),
        (
            [
                "What is my number?", "What is my favourite number?", "What is my lucky number?",
                "Which number did I tell you?", "What was the number?", "Which number should you remember?",
                "Do you remember my number?",
            ],
            [
                "我的数字是多少？", "我最喜欢的数字是多少？", "我的幸运数字是多少？", "我告诉你的数字是多少？",
                "刚才的数字是多少？", "你记得那个数字吗？", "我的号码是多少？",
            ],
        ),
        ("The number is {x}.", "数字是{x}。"),
        ("You have not told me a number.", "你还没有告诉我数字。"),
    ),
    "age": Slot(
        _age,
        (
            ["I am {x} years old.", "I'm {x} years old.", "My age is {x}.", "I turned {x} today."],
            ["我{x}岁。", "我今年{x}岁。", "我的年龄是{x}岁。", "我今年{x}岁了。"],
        ),
        ("I will remember that you are {x} years old.", "好的，我记住了，你{x}岁。"),
        (
            ["How old am I?", "What is my age?", "Do you remember how old I am?", "Do you know my age?"],
            ["我多大了？", "我几岁？", "我今年几岁？", "你记得我多大吗？", "我的年龄是多少？"],
        ),
        ("You are {x} years old.", "你{x}岁。"),
        ("You have not told me your age.", "你还没有告诉我你的年龄。"),
    ),
    "pet": Slot(
        _pet,
        (
            [
                "My {t} is called {x}.", "I have a {t} called {x}.", "I have a {t} named {x}.",
                "My {t}'s name is {x}.", "The name of my {t} is {x}.",
            ],
            ["我的{t}叫{x}。", "我养了一只{t}，叫{x}。", "我家的{t}叫{x}。", "我有一只{t}，名字叫{x}。"],
        ),
        ("I will remember that your {t} is called {x}.", "好的，我记住了，你的{t}叫{x}。"),
        (
            [
                "What is my {t} called?", "What is my {t}'s name?", "What is the name of my {t}?",
                "Do you remember what my {t} is called?",
            ],
            ["我的{t}叫什么？", "我的{t}叫什么名字？", "你记得我的{t}叫什么吗？", "我家的{t}叫什么？"],
        ),
        ("Your {t} is called {x}.", "你的{t}叫{x}。"),
        ("You have not told me what your {t} is called.", "你还没有告诉我你的{t}叫什么。"),
        _pet_kind,
    ),
    "relation": Slot(
        strings.name,
        (
            [
                "My {t}'s name is {x}.", "My {t} is called {x}.", "The name of my {t} is {x}.",
                "I have a {t} called {x}.",
            ],
            ["我的{t}叫{x}。", "我{t}的名字是{x}。", "我{t}叫{x}。", "我有个{t}叫{x}。"],
        ),
        ("I will remember that your {t} is called {x}.", "好的，我记住了，你的{t}叫{x}。"),
        (
            ["What is my {t} called?", "What is my {t}'s name?", "What is the name of my {t}?", "Who is my {t}?"],
            ["我的{t}叫什么？", "我的{t}叫什么名字？", "我{t}叫什么？", "你记得我{t}的名字吗？"],
        ),
        ("Your {t} is called {x}.", "你的{t}叫{x}。"),
        ("You have not told me what your {t} is called.", "你还没有告诉我你的{t}叫什么。"),
        _relation,
    ),
    "job": Slot(
        job,
        (
            ["I work as a {x}.", "My job is {x}.", "I am a {x} by trade.", "My profession is {x}."],
            ["我的工作是{x}。", "我的职业是{x}。", "我是做{x}的。"],
        ),
        ("I will remember that your job is {x}.", "好的，我记住了，你的工作是{x}。"),
        (
            [
                "What is my job?", "What do I do for a living?", "What do I work as?", "What's my profession?",
                "Do you remember my job?",
            ],
            ["我的工作是什么？", "我是做什么的？", "我的职业是什么？", "你记得我的工作吗？"],
        ),
        ("Your job is {x}.", "你的工作是{x}。"),
        ("You have not told me your job.", "你还没有告诉我你的工作。"),
    ),
    "code": Slot(
        code_word,
        (
            [
                "The code word is {x}.", "The password is {x}.", "The secret word is {x}.",
                "Remember this word: {x}", "Remember the code {x}.", "Please remember the word {x}.",
            ],
            [
                "暗号是{x}。", "密码是{x}。", "记住这个词：{x}", "请记住“{x}”这个词。", "口令是{x}。",
                "请记住这个词：{x}",
            ],
        ),
        ("I will remember the word {x}.", "好的，我记住了：{x}。"),
        (
            [
                "What is the code word?", "What is the password?", "What is the secret word?",
                "Which word did I ask you to remember?", "What was the code?", "What was the word?",
            ],
            [
                "暗号是什么？", "密码是什么？", "我让你记住的词是什么？", "口令是什么？", "刚才的词是什么？",
                "我让你记的是什么？",
            ],
        ),
        ("The word is {x}.", "是{x}。"),
        ("You have not told me a word to remember.", "你还没有告诉我要记住的词。"),
    ),
}  # fmt: skip
_ORDER = list(SLOTS)
_WEIGHTS = [6, 5, 3, 3, 1, 2, 1, 1, 2]


def _index(ctx: Context) -> int:
    return 1 if ctx.zh else 0


def remember(ctx: Context, slot: str, value: str, thing: str) -> None:
    key = f"{slot}:{thing}" if slot in ("favourite", "pet", "relation") else slot
    ctx.facts.pop(key, None)
    ctx.facts[key] = (value, thing)


def pick_slot(ctx: Context) -> str:
    return ctx.rng.choices(_ORDER, _WEIGHTS)[0]


def tell(ctx: Context, slot: str | None = None) -> Turn:
    """The user states a fact, or two facts in one message; the reply repeats them."""
    rng, i = ctx.rng, _index(ctx)
    first = slot or pick_slot(ctx)
    chosen = [first]
    if slot is None and rng.random() < 0.2:
        second = pick_slot(ctx)
        if second != first:
            chosen.append(second)
    told, noted = [], []
    for name in chosen:
        kind = SLOTS[name]
        value, thing = kind.make(ctx), kind.thing(ctx) if kind.thing else ""
        told.append(fill(vary(rng, ctx.choice(kind.tell[i])), x=value, t=thing))
        noted.append(fill(kind.noted[i], x=value, t=thing))
        remember(ctx, name, value, thing)
    if ctx.zh:
        question = "".join(t if t[-1] in "。？！" else t + "，" for t in told[:-1]) + told[-1]
        return Turn("memory_tell", [user(question), assistant("".join(noted))])
    question = " ".join(t if t[-1] in ".!" else t + "." for t in told[:-1]) + " " * (len(told) > 1) + told[-1]
    return Turn("memory_tell", [user(question), assistant(" ".join(noted))])


def ask(ctx: Context) -> Turn:
    """A question about any fact told so far."""
    i = _index(ctx)
    key = ctx.choice(list(ctx.facts))
    value, thing = ctx.facts[key]
    kind = SLOTS[key.split(":")[0]]
    question = fill(vary(ctx.rng, ctx.choice(kind.ask[i])), t=thing)
    return Turn("memory", [user(question), assistant(fill(kind.answer[i], x=value, t=thing))])


def ask_unknown(ctx: Context) -> Turn | None:
    """A question about something that was never told: the reply says so."""
    i = _index(ctx)
    slot = pick_slot(ctx)
    kind = SLOTS[slot]
    thing = kind.thing(ctx) if kind.thing else ""
    if any(key.split(":")[0] == slot and (not thing or value[1] == thing) for key, value in ctx.facts.items()):
        return None
    question = fill(vary(ctx.rng, ctx.choice(kind.ask[i])), t=thing)
    return Turn("memory_unknown", [user(question), assistant(fill(kind.unknown[i], t=thing))])
