"""Turns that call tools: choose, copy the arguments, wait, answer from the observation."""

from __future__ import annotations

import json
from typing import Any

from . import strings
from .sample import Context, Message, Turn, assistant, fill, user, vary
from .tool_specs import ToolSpec, from_blueprint, made_up, value
from .tool_table import TEST_BLUEPRINTS, TRAIN_BLUEPRINTS

Arguments = dict[str, Any]

NO_TOOL = {"en": "I have no tool for that.", "zh": "我没有能做这件事的工具。"}


def call(name: str, arguments: Arguments | str) -> dict[str, Any]:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {"type": "function", "function": {"name": name, "arguments": text}}


def calling(*calls: dict[str, Any]) -> Message:
    return {"role": "assistant", "content": "", "tool_calls": list(calls)}


def request(ctx: Context, tool: ToolSpec, template: str | None = None) -> tuple[str, Arguments]:
    """A question and the arguments that it asks for."""
    values = [value(ctx, kind) for _, kind in tool.params]
    question = fill(vary(ctx.rng, template or ctx.choice(tool.ask)), **{str(i): str(v) for i, v in enumerate(values)})
    return question, {name: v for (name, _), v in zip(tool.params, values, strict=True)}


def _spoken(key: str) -> str:
    return key.replace("_", " ")


def _shown(item: Any) -> str:
    if isinstance(item, list):
        return ", ".join(str(part) for part in item)
    return str(item)


def _leaves(result: dict[str, Any]) -> list[tuple[str, Any]]:
    leaves: list[tuple[str, Any]] = []
    for key, item in result.items():
        leaves.extend(_leaves(item) if isinstance(item, dict) else [(key, item)])
    return leaves


def say(ctx: Context, result: dict[str, Any] | str) -> str:
    """The one form in which every result is reported, so that it also fits tools never seen."""
    if isinstance(result, str):
        return f"结果是：{result}" if ctx.zh else f"The result is: {result}"
    if "error" in result:
        return f"工具出错了：{result['error']}" if ctx.zh else f"The tool failed: {result['error']}"
    leaves = _leaves(result)
    if ctx.zh:
        return "，".join(f"{_spoken(key)}是{_shown(item)}" for key, item in leaves) + "。"
    text = ", ".join(f"the {_spoken(key)} is {_shown(item)}" for key, item in leaves) + "."
    return "T" + text[1:]


_ERRORS = [
    "not found", "timeout", "service unavailable", "permission denied", "invalid argument", "no such record",
    "network error", "rate limit", "try again later",
]  # fmt: skip
_ERRORS_ZH = ["未找到", "超时", "服务不可用", "没有权限", "参数无效", "没有这条记录", "网络错误", "请稍后再试"]


def observe(ctx: Context, tool: ToolSpec, arguments: Arguments, may_fail: bool = True) -> dict[str, Any] | str:
    """What the tool returns: mostly a JSON object, sometimes nested, plain text or an error."""
    rng = ctx.rng
    if may_fail and rng.random() < 0.08:
        text = ctx.choice(_ERRORS_ZH if ctx.zh and rng.random() < 0.6 else _ERRORS)
        if rng.random() < 0.5:
            text = f"{strings.word(ctx)} {text}"
        return {"error": text}
    if rng.random() < 0.15:
        if rng.random() < 0.5:
            return strings.phrase(ctx, 8)
        return ", ".join(str(value(ctx, kind)) for _, kind in tool.fields[: rng.randint(1, 3)])
    chosen = rng.sample(tool.fields, rng.randint(1, min(3, len(tool.fields))))
    if rng.random() < 0.1:
        chosen.append((strings.made_up_word(rng, ctx.corpus, ctx.split), rng.choice(("int", "word", "city", "name"))))
    result: dict[str, Any] = {}
    if rng.random() < 0.2:
        name = rng.choice(list(arguments)) if arguments else ""
        if name:
            result[name] = arguments[name]
    for key, kind in chosen:
        result[key] = value(ctx, kind)
        if rng.random() < 0.03:
            result[key] = [value(ctx, kind) for _ in range(rng.randint(1, 3))]
    if rng.random() < 0.06:
        result = {rng.choice(("data", "result", "response", "current")): result}
    return result


def _observation(ctx: Context, result: dict[str, Any] | str) -> Message:
    if isinstance(result, str):
        text = result
    elif ctx.rng.random() < 0.9:
        text = json.dumps(result, ensure_ascii=False)
    else:
        text = json.dumps(result, ensure_ascii=False, separators=(",", ":"))
    return {"role": "observation", "content": text}


def _done(ctx: Context, question: str, tool: ToolSpec, arguments: Arguments, skill: str) -> Turn:
    result = observe(ctx, tool, arguments)
    messages = [
        user(question),
        calling(call(tool.name, arguments)),
        _observation(ctx, result),
        assistant(say(ctx, result)),
    ]
    return Turn(skill, messages)


def one_call(ctx: Context) -> Turn:
    tool = ctx.rng.choice(ctx.tools)
    question, arguments = request(ctx, tool)
    return _done(ctx, question, tool, arguments, "tool")


def follow_up(ctx: Context) -> Turn | None:
    """ "And in Paris?" after a call with one argument."""
    single = [tool for tool in ctx.tools if len(tool.params) == 1 and "|" not in tool.params[0][1]]
    if not single:
        return None
    tool = ctx.rng.choice(single)
    first, arguments = request(ctx, tool)
    again = value(ctx, tool.params[0][1])
    templates = ["那{x}呢？", "{x}呢？"] if ctx.zh else ["And {x}?", "What about {x}?", "And for {x}?"]
    turn = _done(ctx, first, tool, arguments, "tool_follow_up")
    second = _done(ctx, fill(vary(ctx.rng, ctx.choice(templates)), x=str(again)), tool, {tool.params[0][0]: again}, "")
    turn.messages += second.messages
    return turn


def two_calls(ctx: Context) -> Turn | None:
    """One question about two things: two calls in one message, two observations, one answer."""
    single = [
        tool
        for tool in ctx.tools
        if len(tool.params) == 1 and tool.params[0][1] in ("city", "name", "word", "code", "int")
    ]
    if not single:
        return None
    tool = ctx.rng.choice(single)
    name, kind = tool.params[0]
    first, second = value(ctx, kind), value(ctx, kind)
    joined = f"{first}{ctx.choice(['和', '与', '跟'])}{second}" if ctx.zh else f"{first} and {second}"
    question = fill(vary(ctx.rng, ctx.choice(tool.ask)), **{"0": joined})
    fields = ctx.rng.sample(tool.fields, ctx.rng.randint(1, min(2, len(tool.fields))))
    results = [{key: value(ctx, k) for key, k in fields} for _ in range(2)]
    if ctx.zh:
        answer = "".join(
            f"{subject}：{say(ctx, result)}" for subject, result in zip((first, second), results, strict=True)
        )
    else:
        answer = " ".join(
            f"For {subject}: {say(ctx, result)}" for subject, result in zip((first, second), results, strict=True)
        )
    messages = [user(question), calling(call(tool.name, {name: first}), call(tool.name, {name: second}))]
    messages += [{"role": "observation", "content": json.dumps(result, ensure_ascii=False)} for result in results]
    return Turn("tool_two_calls", [*messages, assistant(answer)])


def missing_argument(ctx: Context) -> Turn | None:
    """A value is missing: the reply asks for it, and the call follows."""
    lacking = {
        "en": {
            "weather": "What is the weather?", "time": "What time is it there?", "stock": "What is the stock price?",
            "order": "Where is my order?", "alarm": "Set an alarm.", "call": "Make a call.",
            "population": "What is the population?", "balance": "What is the balance?",
            "price": "What is the price?", "air": "How is the air quality?",
            "train": "When does the next train leave?", "sunset": "When is sunset?", "doctor": "Find a doctor.",
            "recipe": "Give me a recipe.",
        },
        "zh": {
            "weather": "天气怎么样？", "time": "那里现在几点？", "stock": "查一下股价", "order": "我的订单到哪了？",
            "alarm": "设一个闹钟", "call": "打个电话", "population": "人口是多少？", "balance": "查一下余额",
            "price": "多少钱？", "air": "空气质量怎么样？", "train": "下一班火车几点？", "sunset": "几点日落？",
            "doctor": "找一位医生", "recipe": "查一下菜谱",
        },
    }[ctx.language]  # fmt: skip
    known = [tool for tool in ctx.tools if tool.topic in lacking and len(tool.params) == 1]
    if not known:
        return None
    tool = ctx.rng.choice(known)
    name, kind = tool.params[0]
    given = value(ctx, kind)
    asked = f"请告诉我{_spoken(name)}。" if ctx.zh else f"Please tell me the {_spoken(name)}."
    question = vary(ctx.rng, lacking[tool.topic])
    turn = _done(ctx, str(given), tool, {name: given}, "tool_missing_argument")
    turn.messages[:0] = [user(question), assistant(asked)]
    return turn


def remembered_city(ctx: Context) -> Turn | None:
    """The argument was told earlier: "the weather where I live"."""
    known = [
        tool for tool in ctx.tools if len(tool.params) == 1 and tool.params[0][1] == "city" and ":" not in tool.topic
    ]
    if not known or "city" not in ctx.facts:
        return None
    tool = ctx.rng.choice(known)
    here = ctx.choice(
        [
            "我住的城市",
            "我家",
            "我这里",
        ]
        if ctx.zh
        else ["my city", "my home town", "the city where I live"]
    )
    question = fill(vary(ctx.rng, ctx.choice(tool.ask)), **{"0": here})
    return _done(ctx, question, tool, {tool.params[0][0]: ctx.facts["city"][0]}, "tool_memory")


# Requests that could as well be questions about the world: the honest answer is another one there.
_KNOWLEDGE = (
    "calculator",
    "translation",
    "search",
    "film",
    "dictionary",
    "recipe",
    "population",
    "score",
    "news",
    "library",
)


def no_tool_fits(ctx: Context) -> Turn | None:
    """A request for a tool that is not there: one of the table, or a made-up one that may be like one that is there."""
    if ctx.rng.random() < 0.5:
        like = ctx.rng.choice(ctx.tools) if ctx.tools and ctx.rng.random() < 0.5 else None
        missing = made_up(ctx, like)
    else:
        missing = from_blueprint(ctx, ctx.rng.choice(TRAIN_BLUEPRINTS if ctx.split == "train" else TEST_BLUEPRINTS))
    if missing.topic in _KNOWLEDGE or any(tool.topic == missing.topic for tool in ctx.tools):
        return None
    question, _ = request(ctx, missing)
    return Turn("no_tool", [user(question), assistant(NO_TOOL[ctx.language])])


_PYTHON = {
    "en": [
        "What is {x}?", "Calculate {x}.", "Use Python to work out {x}", "Run this in Python: {x}", "Compute {x}",
        "{x} = ?",
    ],
    "zh": ["{x}等于多少？", "计算{x}", "用Python算一下{x}", "用 Python 运行：{x}", "请计算 {x}"],
}  # fmt: skip


def python(ctx: Context) -> Turn:
    """A computation too large for the model, handed to the python tool."""
    a, b = ctx.rng.randint(100, 9999), ctx.rng.randint(100, 9999)
    op = ctx.choice(["*", "+", "-", "*", "**", "//", "%"])
    if op == "**":
        a, b = ctx.rng.randint(2, 99), ctx.rng.randint(2, 9)
    result = {"*": a * b, "+": a + b, "-": a - b, "**": a**b, "//": a // b, "%": a % b}[op]
    expression = f"{a} {op} {b}"
    shown = expression if ctx.rng.random() < 0.7 else f"{a}{op}{b}"
    question = fill(vary(ctx.rng, ctx.choice(_PYTHON[ctx.language])), x=shown)
    answer = f"{expression} = {result}"
    messages = [
        user(question),
        calling(call("python", expression)),
        {"role": "observation", "content": str(result)},
        assistant(answer),
    ]
    return Turn("python", messages)
