"""Made-up strings in many styles. Breadth here is what makes copying generalise to strings never seen."""

from __future__ import annotations

import random
import string
from collections.abc import Callable

from .corpus import Corpus
from .sample import Context, Split, split_of

_ONSETS = [
    "b c d f g h j k l m n p r s t v w y z".split(),
    "br cr dr fr gr tr st sl fl pl ch sh th kn b d f g l m r s t w".split(),
    "k s t n h m r y g z d b p ky sh ch ts".split(),
    "zh kr vl dm str sv br pr sk z v k m n l".split(),
    "qu gl ph x j ll n m v b rr t".split(),
]
_VOWELS = ["a e i o u".split(), "a e i o u ee oo ai ou ea".split(), "a i u e o".split(), "a e i o u y".split()]
_CODAS = [[""], ["", "", "n", "r", "s", "l", "t"], ["", "n"], ["", "ck", "ng", "st", "rt", "x", "m", "d", "sk", "v"]]
_ENDINGS = [
    "", "", "", "ville", "ton", "burg", "stad", "ia", "o", "a", "ov", "ski", "sson", "ez", "field", "ham", "by",
    "grad",
]  # fmt: skip

FIRST_NAMES = (
    "Anna Ben Carla David Emma Felix Grace Henry Ines Jack Kate Liam Maria Noah Olivia Paul Quinn Rosa Sam Tina "
    "Uma Victor Wendy Xavier Yara Zoe Ahmed Bjorn Chen Dmitri Elena Fatima Giulia Hiroshi Ivan Jorge Kofi Lars "
    "Mei Nadia Oscar Priya Rahul Sofia Tariq Ursula Vikram Wanda Yusuf Zara Alice Bob Charlie Daisy Edward Fiona "
    "George Hannah Isaac Julia Kevin Laura Michael Nina Oliver Peter Rachel Simon Thomas Sarah John James Robert "
    "Linda Susan Jessica Daniel Mark Lisa"
).split()
CITIES = (
    "Berlin Paris London Madrid Rome Vienna Prague Oslo Stockholm Helsinki Warsaw Lisbon Dublin Athens Cairo "
    "Lagos Nairobi Tokyo Osaka Kyoto Seoul Beijing Shanghai Shenzhen Hangzhou Delhi Mumbai Bangkok Hanoi Jakarta "
    "Sydney Melbourne Auckland Toronto Montreal Chicago Boston Seattle Denver Dallas Houston Miami Lima Bogota "
    "Santiago Havana Zurich Geneva Munich Hamburg Cologne Milan Naples Venice Porto Seville Valencia Krakow "
    "Budapest Bucharest Sofia Istanbul Ankara Dubai Singapore"
).split()
SURNAMES_ZH = list(
    "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶阎余潘杜戴"
    "夏钟汪田任姜范方石姚谭廖邹熊金陆郝孔白崔康毛邱秦江史顾侯邵孟龙万段雷钱汤尹黎易常武乔贺赖龚文"
)
GIVEN_ZH = list(
    "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超秀霞平刚桂英华玉萍红娥玲芬燕彩春菊兰凤洁梅琳素云莲真环雪荣爱妹香月莺媛瑞凡"
    "佳嘉琼勤珍贞莉晨宇轩浩子涵梓欣怡雨思睿博文昊天一诺若曦志远家豪建国小大海波宁心梦瑶俊逸星辰可馨安琪"
)
CITIES_ZH = (
    "北京 上海 广州 深圳 杭州 南京 苏州 成都 重庆 武汉 西安 长沙 郑州 青岛 大连 厦门 福州 昆明 贵阳 南宁 海口 "
    "三亚 拉萨 兰州 西宁 银川 太原 济南 合肥 南昌 天津 哈尔滨 长春 沈阳 石家庄 呼和浩特 乌鲁木齐 香港 澳门 台北 "
    "桂林 洛阳 扬州 无锡 宁波 温州 珠海 东京 巴黎 伦敦 柏林 纽约 莫斯科 悉尼"
).split()
_TRANSLITERATION = list(
    "阿艾安巴贝比博布查达德迪丁多尔法菲弗戈格古哈海赫胡基吉加杰卡凯科克库拉莱兰勒雷里利列林隆卢鲁罗洛马玛迈曼梅米"
    "莫姆纳内尼诺努帕佩皮普奇乔切若萨塞桑森舍什史斯索苏塔泰特蒂托瓦维威沃乌西希夏亚延伊因扎佐"
)
_PLACE_ENDINGS_ZH = ["", "", "市", "镇", "村", "城", "县", "港", "岛", "山", "湾", "堡"]


def _letters(rng: random.Random, least: int, most: int) -> str:
    return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(least, most)))


def _syllables(rng: random.Random) -> str:
    onsets, vowels, codas = rng.choice(_ONSETS), rng.choice(_VOWELS), rng.choice(_CODAS)
    count = rng.choice((1, 2, 2, 2, 3, 3))
    return "".join(rng.choice(onsets) + rng.choice(vowels) + rng.choice(codas) for _ in range(count))


def _until(make: Callable[[], str], split: Split) -> str:
    """Draw until the string belongs to the split: train and test never share one."""
    while True:
        text = make()
        if text and split_of(text) == split:
            return text


def made_up_word(rng: random.Random, corpus: Corpus, split: Split) -> str:
    """One lower-case word: letters, syllables or a book's word."""

    def make() -> str:
        draw = rng.random()
        if draw < 0.25:
            return _letters(rng, 2, 8)
        if draw < 0.5:
            return _syllables(rng)
        return corpus.word(rng, split).lower()

    return _until(make, split)


def _proper(rng: random.Random, corpus: Corpus, split: Split, known: list[str], endings: bool) -> str:
    draw = rng.random()
    if draw < 0.12:
        return rng.choice(known)
    if draw < 0.30:
        return _letters(rng, 2, 9).capitalize()
    if draw < 0.62:
        ending = rng.choice(_ENDINGS) if endings or rng.random() < 0.3 else ""
        return (_syllables(rng) + ending).capitalize()
    if draw < 0.86:
        return corpus.word(rng, split).capitalize()
    if draw < 0.90:
        return corpus.word(rng, split).capitalize() + rng.choice(("-", "'")) + _syllables(rng).capitalize()
    return f"{_syllables(rng).capitalize()} {rng.choice((corpus.word(rng, split), _letters(rng, 2, 7))).capitalize()}"


def name_en(rng: random.Random, corpus: Corpus, split: Split) -> str:
    return _until(lambda: _cased(rng, _proper(rng, corpus, split, FIRST_NAMES, False)), split)


def city_en(rng: random.Random, corpus: Corpus, split: Split) -> str:
    def make() -> str:
        text = _proper(rng, corpus, split, CITIES, True)
        if rng.random() < 0.07:
            text = rng.choice(("New ", "San ", "Port ", "Saint ", "Upper ", "North ", "Los ", "Bad ")) + text
        return _cased(rng, text)

    return _until(make, split)


def _cased(rng: random.Random, text: str) -> str:
    return text.lower() if rng.random() < 0.08 else text


def _transliterated(rng: random.Random, least: int = 2, most: int = 5) -> str:
    return "".join(rng.choices(_TRANSLITERATION, k=rng.randint(least, most)))


def name_zh(rng: random.Random, corpus: Corpus, split: Split) -> str:
    def make() -> str:
        draw = rng.random()
        if draw < 0.45:
            return rng.choice(SURNAMES_ZH) + "".join(rng.choices(GIVEN_ZH, k=rng.randint(1, 2)))
        if draw < 0.70:
            return rng.choice(SURNAMES_ZH) + "".join(corpus.character(rng) for _ in range(rng.randint(1, 2)))
        if draw < 0.76:
            return rng.choice("小老阿大") + rng.choice(SURNAMES_ZH + GIVEN_ZH)
        if draw < 0.90:
            return _transliterated(rng)
        return "".join(corpus.character(rng) for _ in range(rng.randint(2, 4)))

    return _until(make, split)


def city_zh(rng: random.Random, corpus: Corpus, split: Split) -> str:
    def make() -> str:
        draw = rng.random()
        if draw < 0.15:
            text = rng.choice(CITIES_ZH)
        elif draw < 0.45:
            text = _transliterated(rng)
        elif draw < 0.85:
            text = "".join(corpus.character(rng) for _ in range(rng.randint(2, 4)))
        else:
            text = corpus.snippet(rng, split, 2, 4)
        return text + (rng.choice(_PLACE_ENDINGS_ZH) if rng.random() < 0.4 else "")

    return _until(make, split)


def word_zh(rng: random.Random, corpus: Corpus, split: Split) -> str:
    def make() -> str:
        if rng.random() < 0.4:
            return "".join(corpus.character(rng) for _ in range(rng.randint(1, 4)))
        return corpus.snippet(rng, split, 1, 4)

    return _until(make, split)


def number(rng: random.Random) -> str:
    return str(rng.randint(0, 10 ** rng.randint(1, 5) - 1))


def code(rng: random.Random, split: Split) -> str:
    """An order number, a flight number, a stock symbol, a password."""

    def make() -> str:
        draw = rng.random()
        letters = "".join(rng.choices(string.ascii_uppercase, k=rng.randint(1, 4)))
        digits = "".join(rng.choices(string.digits, k=rng.randint(2, 5)))
        if draw < 0.4:
            return letters + digits
        if draw < 0.7:
            return f"{letters}-{digits}"
        if draw < 0.85:
            return digits + letters
        return "".join(rng.choices(string.ascii_letters + string.digits, k=rng.randint(4, 8)))

    return _until(make, split)


# What a skill asks for, by kind and by the conversation's language ----------------------------------------------------


def name(ctx: Context) -> str:
    chinese = ctx.zh if ctx.rng.random() < 0.9 else not ctx.zh
    return (name_zh if chinese else name_en)(ctx.rng, ctx.corpus, ctx.split)


def city(ctx: Context) -> str:
    chinese = ctx.zh if ctx.rng.random() < 0.9 else not ctx.zh
    return (city_zh if chinese else city_en)(ctx.rng, ctx.corpus, ctx.split)


def word(ctx: Context) -> str:
    if ctx.zh and ctx.rng.random() < 0.85:
        return word_zh(ctx.rng, ctx.corpus, ctx.split)
    return made_up_word(ctx.rng, ctx.corpus, ctx.split)


def phrase(ctx: Context, most: int = 6) -> str:
    """A few words that mean nothing in particular: a title, a message, a search."""
    rng = ctx.rng

    def make() -> str:
        if ctx.zh and rng.random() < 0.85:
            return ctx.corpus.snippet(rng, ctx.split, 2, 2 * most)
        if rng.random() < 0.6:
            text = ctx.corpus.phrase(rng, ctx.split, most)
            return "".join(c for c in text if c not in "\"“”'‘’;:()[]").strip(" ,.!?-—") or "a"
        return " ".join(made_up_word(rng, ctx.corpus, ctx.split) for _ in range(rng.randint(1, most)))

    return _until(make, ctx.split)


def text(ctx: Context) -> str:
    """Anything that can be repeated word for word."""
    rng, corpus, split = ctx.rng, ctx.corpus, ctx.split

    def make() -> str:
        draw = rng.random()
        if draw < 0.10:
            return _letters(rng, 1, 10)
        if draw < 0.15:
            return "".join(rng.choices(string.ascii_letters, k=rng.randint(1, 8)))
        if draw < 0.25:
            return " ".join(made_up_word(rng, corpus, split) for _ in range(rng.randint(1, 6)))
        if draw < 0.31:
            return " ".join(number(rng) for _ in range(rng.randint(1, 4)))
        if draw < 0.36:
            return code(rng, split)
        if draw < 0.40:
            return name_en(rng, corpus, split)
        if draw < 0.43:
            return name_zh(rng, corpus, split)
        chinese = ctx.zh if rng.random() < 0.85 else not ctx.zh
        if chinese:
            if rng.random() < 0.3:
                return "".join(corpus.character(rng) for _ in range(rng.randint(1, 8)))
            return corpus.snippet(rng, split, 2, 24) if rng.random() < 0.6 else _draw_line(rng, corpus, split)
        return corpus.phrase(rng, split, 15)

    return _until(make, split)


def _draw_line(rng: random.Random, corpus: Corpus, split: Split) -> str:
    return rng.choice(corpus.chinese_lines[split])
