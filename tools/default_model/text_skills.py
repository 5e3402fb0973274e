"""Repeat, reverse, spell, count, pick: work on text that the user gives."""

from __future__ import annotations

from . import strings
from .sample import Context, Turn, assistant, fill, user, vary

NOUNS_EN = (
    "red green blue yellow black white pink grey brown orange apple pear plum lemon banana cat dog horse cow "
    "sheep goat bird fish mouse tree river hill lake sea sun moon star rain snow wind bread milk tea salt sugar "
    "rice egg cup spoon table chair door window book pen paper lamp clock car bus train boat plane king queen "
    "house garden road bridge one two three four five"
).split()
_NOUNS_ZH = (
    "红 绿 蓝 黄 黑 白 苹果 梨 桃子 香蕉 猫 狗 马 牛 羊 鸟 鱼 老鼠 树 河 山 湖 海 太阳 月亮 星星 雨 雪 风 面包 "
    "牛奶 茶 盐 糖 米饭 鸡蛋 杯子 勺子 桌子 椅子 门 窗户 书 笔 纸 灯 钟 汽车 火车 船 飞机 国王 房子 花园 路 桥 一 "
    "二 三 四 五 春天 夏天 秋天 冬天"
).split()

_REPEAT = {
    "en": [
        "Repeat: {x}", "Repeat after me: {x}", "Say exactly: {x}", 'Repeat "{x}"', "Please repeat: {x}", "Echo: {x}",
        "Copy this: {x}", "Write exactly this: {x}", "Say {x}", "Say: {x}", "Repeat the following: {x}",
        "{x}\nRepeat the text above.", "repeat {x}", 'Say "{x}"', "Can you repeat this? {x}", "Please say: {x}",
        "Repeat this text word for word: {x}", "Copy: {x}", "Please repeat the following text exactly: {x}",
        "Repeat this sentence: {x}", "Write: {x}", "Repeat this:\n{x}",
    ],
    "zh": [
        "复述：{x}", "请复述：{x}", "请重复：{x}", "跟我说：{x}", "原样输出：{x}", "重复一遍：{x}",
        "请把这句话再说一遍：{x}", "请重复“{x}”", "重复：{x}", "请说：{x}", "说：{x}", "请原样重复下面的话：{x}",
        "{x}\n请重复上面的话。", "复述一下：{x}", "请跟我念：{x}", "抄写：{x}", "请复述下面的内容：\n{x}",
        "照着说：{x}", "重复{x}", "把下面这句话重复一遍：{x}",
    ],
}  # fmt: skip
_REVERSE_LIST = {
    "en": [
        "Reverse the list: {x}", "Reverse: {x}", "Reverse these words: {x}", "Reverse the order of: {x}",
        "Put these in reverse order: {x}", "Say these backwards: {x}", "Please reverse this list: {x}",
        "List these in reverse: {x}", "Reverse the following list: {x}", "Give me these in the opposite order: {x}",
        "Can you reverse this list? {x}",
    ],
    "zh": [
        "倒序：{x}", "把列表倒过来：{x}", "请倒序排列：{x}", "把这些词倒过来：{x}", "反过来说：{x}",
        "请把下面的列表倒序：{x}", "颠倒顺序：{x}", "倒着念：{x}", "请按相反的顺序列出：{x}", "将以下列表反转：{x}",
    ],
}  # fmt: skip
_REVERSE_WORD = {
    "en": [
        "Reverse the word {x}", 'Reverse the word "{x}"', "Reverse the letters of {x}", "Spell {x} backwards.",
        "What is {x} backwards?", "Write {x} backwards.", "Please reverse the letters of {x}.",
        'Reverse the string "{x}"', "How do you spell {x} backwards?",
    ],
    "zh": [
        "把单词{x}倒过来", "请把“{x}”的字母倒过来", "把{x}的字母倒着写", "{x}倒过来怎么拼？",
        "单词 {x} 倒过来是什么？", "反转字符串“{x}”",
    ],
}  # fmt: skip
_REVERSE_TEXT_ZH = [
    "把“{x}”倒过来", "把“{x}”倒过来写。", "请把“{x}”反过来说", "“{x}”倒过来是什么？", "倒着说“{x}”", "反转“{x}”",
    "请倒着写：{x}", "把这几个字倒过来：{x}",
]  # fmt: skip
_SPELL = {
    "en": ["Spell {x}.", 'Spell the word "{x}".', "How do you spell {x}?", "Spell out {x}", "Please spell {x}."],
    "zh": ["拼写{x}", "{x}怎么拼？", "请拼写单词 {x}", "请拼出“{x}”"],
}
_COUNT_WORDS = {
    "en": [
        "How many words: {x}", "Count the words: {x}", "How many words are there in: {x}",
        "How many words are in this list? {x}", "Count these words: {x}", 'How many words are in "{x}"?',
        "Count the items: {x}", "How many items are in this list: {x}", "How many things do I list here: {x}",
        "Please count: {x}", "Count: {x}",
    ],
    "zh": [
        "有几个词：{x}", "数一数有几个词：{x}", "下面有多少个词：{x}", "请数一下：{x}", "这个列表里有几项：{x}",
        "数一数：{x}", "一共有几个：{x}", "列表里有多少个词？{x}", "“{x}”里有几个词？",
    ],
}  # fmt: skip
_COUNT_LETTERS = {
    "en": [
        "How many letters are in {x}?", 'How many letters does "{x}" have?',
        "How many letters are there in the word {x}?", "Count the letters in {x}.", "How many letters in {x}?",
        "Count the letters of the word {x}",
    ],
    "zh": ["{x}有几个字母？", "单词 {x} 有多少个字母？", "“{x}”里有几个字母？", "数一数 {x} 有几个字母"],
}  # fmt: skip
_COUNT_CHARACTERS_ZH = ["“{x}”有几个字？", "“{x}”这句话有几个字？", "数一数“{x}”有多少个字", "{x}，这里有几个字？"]
_OCCURRENCES = {
    "en": ["How many times does {w} occur in: {x}", "How often does {w} appear in this list: {x}", "Count {w} in: {x}",
           'How many times is "{w}" in the list {x}?', "How many {w} are in this list: {x}"],
    "zh": ["{w}在下面出现了几次：{x}", "“{w}”出现了几次？{x}", "数一数{w}在列表里出现几次：{x}", "下面有几个{w}：{x}"],
}  # fmt: skip
_LETTER_OCCURRENCES = {
    "en": [
        "How many times does the letter {w} occur in {x}?", "How many {w}'s are in {x}?",
        "How many {w} are in the word {x}?", 'Count the letter {w} in "{x}".',
    ],
    "zh": ["{x}里有几个字母{w}？", "单词 {x} 里有几个 {w}？", "字母{w}在{x}里出现几次？"],
}  # fmt: skip
_FIRST = {
    "en": [
        "What is the first item: {x}", "First word of: {x}", "Which comes first in this list: {x}",
        "What is the first word in: {x}",
    ],
    "zh": ["第一个是什么：{x}", "列表的第一项是什么：{x}", "下面第一个词是什么：{x}"],
}  # fmt: skip
_LAST = {
    "en": [
        "What is the last item: {x}", "Last word of: {x}", "Which comes last in this list: {x}",
        "What is the last word in: {x}",
    ],
    "zh": ["最后一个是什么：{x}", "列表的最后一项是什么：{x}", "下面最后一个词是什么：{x}"],
}  # fmt: skip
_CONTAINS = {
    "en": ["Is {w} in this list: {x}", "Does this list contain {w}? {x}", "Is {w} among these: {x}"],
    "zh": ["{w}在列表里吗：{x}", "下面有没有{w}：{x}", "这个列表里有{w}吗？{x}"],
}


def _simple(ctx: Context, skill: str, templates: dict[str, list[str]], answer: str, **values: str) -> Turn:
    question = fill(vary(ctx.rng, ctx.choice(templates[ctx.language])), **values)
    return Turn(skill, [user(question), assistant(answer)])


def item(ctx: Context) -> str:
    """One list item without spaces, so that it is one word in every reading."""
    draw = ctx.rng.random()
    if draw < 0.35:
        return ctx.choice(_NOUNS_ZH if ctx.zh else NOUNS_EN)
    if draw < 0.45:
        return str(ctx.rng.randint(0, 999))
    if draw < 0.52:
        return ctx.choice(list("abcdefghijklmnopqrstuvwxyz"))
    if draw < 0.60:
        return strings.name(ctx).replace(" ", "").replace("、", "")
    return strings.word(ctx)


def items(ctx: Context, least: int, most: int) -> list[str]:
    """Mostly a mixture, sometimes all of one kind."""
    count = ctx.rng.randint(least, most)
    draw = ctx.rng.random()
    if draw < 0.12:
        return [str(ctx.rng.randint(0, 99)) for _ in range(count)]
    if draw < 0.22:
        return [ctx.choice(list("abcdefghijklmnopqrstuvwxyz")) for _ in range(count)]
    if draw < 0.45:
        return [ctx.choice(_NOUNS_ZH if ctx.zh else NOUNS_EN) for _ in range(count)]
    return [item(ctx) for _ in range(count)]


def separator(ctx: Context) -> str:
    return ctx.choice(["、", "，", "、", " ", ", "] if ctx.zh else [", ", ", ", " ", ","])


def repeat(ctx: Context) -> Turn:
    text = strings.text(ctx)
    return _simple(ctx, "repeat", _REPEAT, text, x=text)


def reverse_list(ctx: Context) -> Turn:
    things, mark = items(ctx, 2, 8), separator(ctx)
    return _simple(ctx, "reverse_list", _REVERSE_LIST, mark.join(reversed(things)), x=mark.join(things))


def _short_word(ctx: Context, most: int) -> str:
    """A Latin word of at most `most` letters."""
    while True:
        if ctx.split == "train" and ctx.rng.random() < 0.15:
            word = ctx.choice(NOUNS_EN)
        else:
            word = strings.made_up_word(ctx.rng, ctx.corpus, ctx.split)
        if 2 <= len(word) <= most and word.isalpha():
            return word


def reverse_word(ctx: Context) -> Turn:
    if ctx.zh and ctx.rng.random() < 0.6:
        text = ctx.corpus.snippet(ctx.rng, ctx.split, 2, 8)
        question = fill(vary(ctx.rng, ctx.choice(_REVERSE_TEXT_ZH)), x=text)
        return Turn("reverse_word", [user(question), assistant(text[::-1])])
    word = _short_word(ctx, 8)
    answer = f"{' '.join(word)} -> {' '.join(reversed(word))}: {word[::-1]}"
    return _simple(ctx, "reverse_word", _REVERSE_WORD, answer, x=word)


def spell(ctx: Context) -> Turn:
    word = _short_word(ctx, 12)
    return _simple(ctx, "spell", _SPELL, " ".join(word), x=word)


def count(ctx: Context) -> Turn:
    """How many items, letters or characters: counted aloud, so that each step is a small one."""
    draw = ctx.rng.random()
    if draw < 0.6:
        things, mark = items(ctx, 1, 12), separator(ctx)
        if not ctx.zh and ctx.rng.random() < 0.25:
            things, mark = ctx.corpus.phrase(ctx.rng, ctx.split, 10).replace('"', "").split(), " "
            things = [thing.strip(",.;:!?()—-") or "a" for thing in things]
        n = len(things)
        aloud = ("、" if ctx.zh else ", ").join(f"{thing} {i}" for i, thing in enumerate(things, 1))
        answer = f"{aloud}。一共{n}个。" if ctx.zh else f"{aloud}. That makes {n}."
        return _simple(ctx, "count", _COUNT_WORDS, answer, x=mark.join(things))
    if ctx.zh and draw < 0.85:
        text = ctx.corpus.snippet(ctx.rng, ctx.split, 1, 10)
        aloud = "、".join(f"{character} {i}" for i, character in enumerate(text, 1))
        question = fill(vary(ctx.rng, ctx.choice(_COUNT_CHARACTERS_ZH)), x=text)
        return Turn("count", [user(question), assistant(f"{aloud}。一共{len(text)}个。")])
    word = _short_word(ctx, 12)
    aloud = ("、" if ctx.zh else ", ").join(f"{letter} {i}" for i, letter in enumerate(word, 1))
    answer = f"{aloud}。一共{len(word)}个。" if ctx.zh else f"{aloud}. That makes {len(word)}."
    return _simple(ctx, "count", _COUNT_LETTERS, answer, x=word)


def occurrences(ctx: Context) -> Turn:
    """How often one thing occurs: the list is walked, and each find is numbered."""
    if ctx.rng.random() < 0.35:
        word = _short_word(ctx, 10)
        if ctx.rng.random() < 0.4:
            at = ctx.rng.randrange(len(word))
            word = (word[:at] + word[at] + word[at:])[:11]
        wanted = ctx.choice(list(word)) if ctx.rng.random() < 0.9 else ctx.choice(list("aeiounrst"))
        things, mark = list(word), " "
        templates, shown = _LETTER_OCCURRENCES, word
    else:
        pool = items(ctx, 2, 4)
        things = [ctx.choice(pool) for _ in range(ctx.rng.randint(2, 8))]
        wanted = ctx.choice(things) if ctx.rng.random() < 0.85 else item(ctx)
        mark = "、" if ctx.zh else ", "
        templates, shown = _OCCURRENCES, separator(ctx).join(things)
    found, walked = 0, []
    for thing in things:
        found += thing == wanted
        walked.append(f"{thing} {found}" if thing == wanted else thing)
    answer = f"{mark.join(walked)}。出现{found}次。" if ctx.zh else f"{mark.join(walked)}. That makes {found}."
    return _simple(ctx, "occurrences", templates, answer, x=shown, w=wanted)


def first_or_last(ctx: Context) -> Turn:
    things, mark = items(ctx, 2, 8), separator(ctx)
    if ctx.rng.random() < 0.5:
        return _simple(ctx, "first_last", _FIRST, things[0], x=mark.join(things))
    return _simple(ctx, "first_last", _LAST, things[-1], x=mark.join(things))


def contains(ctx: Context) -> Turn:
    things, mark = items(ctx, 2, 7), separator(ctx)
    wanted = ctx.choice(things) if ctx.rng.random() < 0.5 else item(ctx)
    if wanted in things:
        answer = f"是的，列表里有{wanted}。" if ctx.zh else f"Yes, {wanted} is in the list."
    else:
        answer = f"不，列表里没有{wanted}。" if ctx.zh else f"No, {wanted} is not in the list."
    return _simple(ctx, "contains", _CONTAINS, answer, x=mark.join(things), w=wanted)
