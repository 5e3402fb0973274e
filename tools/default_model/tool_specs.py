"""Tools: a table written by hand, and made-up ones, so that the model has to read the schema."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import strings
from .sample import Context, split_of
from .tool_table import TEST_BLUEPRINTS, TRAIN_BLUEPRINTS, Blueprint


@dataclass
class ToolSpec:
    """A tool as one conversation shows it."""

    schema: dict[str, Any]
    name: str
    topic: str
    params: list[tuple[str, str]]  # (name in the schema, kind)
    ask: list[str]
    fields: list[tuple[str, str]]  # (key, kind)


def value(ctx: Context, kind: str) -> str | int | float:
    rng = ctx.rng
    if "|" in kind:
        return ctx.choice(kind.split("|"))
    if kind == "city":
        return strings.city(ctx)
    if kind == "name":
        return strings.name(ctx)
    if kind == "word":
        return strings.word(ctx)
    if kind == "text":
        return strings.phrase(ctx)
    if kind == "code":
        return strings.code(rng, ctx.split)
    if kind == "int":
        return rng.randint(1, 10 ** rng.randint(1, 4))
    if kind == "small":
        return rng.randint(1, 20)
    if kind == "temperature":
        return rng.randint(-20, 42)
    if kind == "price":
        return round(rng.uniform(1, 10 ** rng.randint(1, 4)), rng.choice((1, 2)))
    if kind == "time":
        return f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}"
    if kind == "date":
        return f"{rng.randint(2020, 2029)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
    if kind == "phone":
        return "".join(str(rng.randint(0, 9)) for _ in range(rng.randint(6, 11)))
    if kind == "email":
        return (
            f"{strings.made_up_word(rng, ctx.corpus, ctx.split)}@{strings.made_up_word(rng, ctx.corpus, ctx.split)}.com"
        )
    if kind == "condition":
        if rng.random() < 0.3:
            return strings.word(ctx)
        return ctx.choice(
            "晴 多云 小雨 大雨 阴 小雪 有雾 大风 雷阵雨".split() if ctx.zh else
            "sunny cloudy rainy windy snowy foggy clear stormy hot cold".split()
        )  # fmt: skip
    if kind == "sum":
        while True:
            text = f"{rng.randint(2, 999)} {ctx.choice(['+', '-', '*', '/'])} {rng.randint(2, 999)}"
            if split_of(text) == ctx.split:
                return text
    raise ValueError(f"unknown kind of value: {kind!r}")


def json_type(kind: str) -> str:
    return {"int": "integer", "small": "integer", "price": "number", "temperature": "integer"}.get(kind, "string")


def _schema(name: str, description: str, params: list[tuple[str, str, str]], required: list[str]) -> dict[str, Any]:
    """`params` are (name, kind, description)."""
    properties: dict[str, Any] = {}
    for param, kind, text in params:
        properties[param] = {"type": json_type(kind)}
        if text:
            properties[param]["description"] = text
        if "|" in kind:
            properties[param]["enum"] = kind.split("|")
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def from_blueprint(ctx: Context, blueprint: Blueprint) -> ToolSpec:
    rng = ctx.rng
    name = rng.choice(blueprint.names)
    if ctx.split == "train" and rng.random() < 0.8:
        name = _renamed(ctx, name)
    in_chinese = rng.random() < (0.6 if ctx.zh else 0.1)
    described = rng.random() < 0.7
    params: list[tuple[str, str]] = []
    shown: list[tuple[str, str, str]] = []
    taken: set[str] = set()
    for param in blueprint.params:
        choices = [n for n in param.names if n not in taken]
        chosen = rng.choice(choices)
        if ctx.split == "train" and rng.random() < 0.35:
            chosen = strings.made_up_word(rng, ctx.corpus, ctx.split)
        taken.add(chosen)
        params.append((chosen, param.kind))
        shown.append((chosen, param.kind, (param.zh if in_chinese else param.en) if described else ""))
    keys_in_chinese = ctx.zh and rng.random() < 0.4
    fields = [(zh if keys_in_chinese else en, kind) for en, zh, kind in blueprint.fields]
    description = blueprint.zh if in_chinese else blueprint.en
    schema = _schema(name, description, shown, [n for n, _ in params])
    return ToolSpec(schema, name, blueprint.topic, params, blueprint.ask[ctx.language], fields)


def _renamed(ctx: Context, name: str) -> str:
    """Another name for a tool of the table. Fifty names are soon known by heart, and then no longer read."""
    rng = ctx.rng
    parts = name.split("_")
    parts[rng.randrange(len(parts))] = strings.made_up_word(rng, ctx.corpus, ctx.split)
    if rng.random() < 0.4:
        parts = [rng.choice(_VERBS), strings.made_up_word(rng, ctx.corpus, ctx.split)]
    return "_".join(parts) if rng.random() < 0.8 else parts[0] + "".join(part.capitalize() for part in parts[1:])


# Made-up tools -------------------------------------------------------------------------------------------------------

_VERBS = (
    "get find check show fetch set send create delete start stop open close count measure update scan move list "
    "reset print save rate repair paint wash test build hide lock load sell order rent share mark clean"
).split()
_VERBS_ZH = [
    ("get", "查询"), ("find", "查找"), ("check", "检查"), ("show", "显示"), ("fetch", "获取"), ("set", "设置"),
    ("send", "发送"), ("create", "创建"), ("delete", "删除"), ("start", "启动"), ("stop", "停止"), ("open", "打开"),
    ("close", "关闭"), ("count", "统计"), ("measure", "测量"), ("update", "更新"), ("scan", "扫描"),
    ("move", "移动"), ("list", "列出"), ("reset", "重置"), ("print", "打印"), ("save", "保存"), ("repair", "修理"),
    ("test", "测试"), ("build", "建造"), ("lock", "锁定"), ("load", "加载"), ("sell", "出售"), ("order", "订购"),
    ("rent", "租用"), ("share", "分享"), ("clean", "清理"),
]  # fmt: skip
_NOUNS = (
    "score level report status position speed value price ticket record photo signal door engine motor battery "
    "sensor pump garden boat machine robot printer camera invoice contract member lesson course exam parking bus "
    "bridge tower museum library hospital school"
).split()
_NOUNS_ZH = (
    "分数 等级 报告 状态 位置 速度 数值 价格 门票 记录 照片 信号 门 引擎 电池 传感器 水泵 花园 船 机器 机器人 "
    "打印机 相机 发票 合同 会员 课程 考试 停车位 桥 塔 博物馆 医院 学校"
).split()
_LINKS = [
    ("of", "name"),
    ("of", "city"),
    ("in", "city"),
    ("for", "name"),
    ("for", "word"),
    ("of", "word"),
    ("with", "code"),
    ("for", "code"),
    ("to", "name"),
    ("number", "int"),
    ("of", "text"),
]
_KEYS = {
    "name": "name person user owner customer who member patient student driver".split(),
    "city": "city place location town area region station where".split(),
    "word": "item object target thing key label topic kind".split(),
    "code": "id code number serial key ref".split(),
    "int": "number id index n value".split(),
    "text": "title text query phrase name".split(),
}
_EXTRA = [
    ("level", "small"), ("days", "small"), ("amount", "int"), ("mode", "fast|slow"), ("unit", "metric|imperial"),
    ("date", "date"), ("time", "time"), ("count", "small"), ("color", "red|green|blue"),
    ("size", "small|medium|large"), ("limit", "int"), ("owner", "name"), ("note", "word"),
]  # fmt: skip
_EXTRA_ZH = {
    "level": "等级", "days": "天数", "amount": "数量", "mode": "模式", "unit": "单位", "date": "日期",
    "time": "时间", "count": "次数", "color": "颜色", "size": "大小", "limit": "上限", "owner": "主人",
    "note": "备注",
}  # fmt: skip


def made_up(ctx: Context, like: ToolSpec | None = None) -> ToolSpec:
    """A tool with random names. `like` makes a near miss: another verb for the same thing."""
    rng = ctx.rng
    latin = strings.made_up_word(rng, ctx.corpus, ctx.split)
    verb_en, verb = rng.choice(_VERBS_ZH) if ctx.zh else (lambda v: (v, v))(rng.choice(_VERBS))
    if rng.random() < 0.4:
        at = rng.randrange(len(_NOUNS_ZH))
        thing = _NOUNS_ZH[at] if ctx.zh else rng.choice(_NOUNS)
        stem = latin if ctx.zh else thing
    else:
        thing, stem = latin, latin
        if ctx.zh and rng.random() < 0.5:
            thing = strings.word_zh(rng, ctx.corpus, ctx.split)
    if like is not None and ":" in like.topic:
        old_verb, thing, stem = like.topic.split(":")
        while verb == old_verb:
            verb_en, verb = rng.choice(_VERBS_ZH) if ctx.zh else (lambda v: (v, v))(rng.choice(_VERBS))
    draw = rng.random()
    if draw < 0.7:
        name = f"{verb_en}_{stem}"
    elif draw < 0.85:
        name = verb_en + stem.capitalize()
    else:
        name = f"{stem}_{verb_en}"
    link, kind = rng.choice(_LINKS)
    key = rng.choice(_KEYS[kind]) if rng.random() < 0.8 else strings.made_up_word(rng, ctx.corpus, ctx.split)
    params = [(key, kind)]
    extras: list[tuple[str, str]] = []
    for extra in rng.sample(_EXTRA, rng.choice((0, 0, 0, 1, 1, 2))):
        if extra[0] != key:
            extras.append(extra)
    params += extras
    if ctx.zh:
        tail = "".join(f"，{_EXTRA_ZH[name_]}{{{i}}}" for i, (name_, _) in enumerate(extras, 1))
        ask = [
            f"{verb}{{0}}的{thing}{tail}",
            f"帮我{verb}{{0}}的{thing}{tail}",
            f"请{verb}{{0}}的{thing}{tail}。",
            f"我想{verb}{{0}}的{thing}{tail}",
        ]
        description = f"{verb}{thing}" if rng.random() < 0.5 else f"{verb}某个{key}的{thing}"
        if thing == stem and rng.random() < 0.2:
            description = f"{verb_en} the {stem}"
    else:
        tail = "".join(f", {name_} {{{i}}}" for i, (name_, _) in enumerate(extras, 1))
        what = f"the {thing} {link} {{0}}{tail}"
        ask = [
            f"{verb.capitalize()} {what}.",
            f"Please {verb} {what}.",
            f"Can you {verb} {what}?",
            f"I want to {verb} {what}.",
        ]
        description = f"{verb.capitalize()} the {thing}" + (f" {link} a {key}" if rng.random() < 0.5 else "")
    described = rng.random() < 0.3
    shown = [(n, k, (f"The {n}" if not ctx.zh else n) if described else "") for n, k in params]
    schema = _schema(name, description, shown, [n for n, _ in params])
    fields: list[tuple[str, str]] = [
        (thing if rng.random() < 0.5 else stem, rng.choice(("int", "word", "price", "code", "small")))
    ]
    for field in rng.sample(
        [
            ("status", "ok|done|open"),
            ("time", "time"),
            ("result", "word"),
            ("id", "int"),
            ("total", "price"),
            ("owner", "name"),
        ],
        rng.randint(0, 2),
    ):
        fields.append(field)
    return ToolSpec(schema, name, f"{verb}:{thing}:{stem}", params, ask, fields)


PYTHON_SCHEMA: dict[str, Any] = {"type": "python"}


def toolbox(ctx: Context, count: int, new: bool = False) -> list[ToolSpec]:
    """`count` tools that cannot be confused: topics and names differ; near misses among the made-up ones are meant.

    Those not made up are the table's that training shows; with `new`, those that it never does.
    """
    table = TEST_BLUEPRINTS if new else TRAIN_BLUEPRINTS
    tools: list[ToolSpec] = []
    while len(tools) < count:
        if ctx.rng.random() < 0.45:
            tool = from_blueprint(ctx, ctx.rng.choice(table))
        else:
            like = ctx.rng.choice(tools) if tools and ctx.rng.random() < 0.35 else None
            tool = made_up(ctx, like)
        if all(tool.topic != other.topic and tool.name != other.name for other in tools):
            tools.append(tool)
    return tools
