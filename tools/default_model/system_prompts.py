"""System prompts: harmless ones, and ones whose facts have to be used."""

from __future__ import annotations

from . import memory, strings
from .sample import Context, Message, fill

_HARMLESS = [
    "You are a helpful assistant.", "Answer briefly.", "You are a friendly assistant. Keep your answers short.",
    "Be polite.", "You are a helpful AI assistant.", "Answer the user's questions.",
    "You are an assistant in a shop.", "Today is a good day.", "Help the user as well as you can.",
    "You are a helpful, respectful and honest assistant.",
]  # fmt: skip
_HARMLESS_ZH = [
    "你是一个有用的助手。", "请简短回答。", "你是一个友好的助手，回答要简短。", "请保持礼貌。",
    "你是一个乐于助人的人工智能助手。", "请回答用户的问题。", "你是一家商店的助手。", "今天天气很好。",
    "请尽力帮助用户。",
]  # fmt: skip


def system(ctx: Context) -> Message:
    """A system prompt that may state the user's name or city, or a name for the assistant."""
    i = 1 if ctx.zh else 0
    draw = ctx.rng.random()
    parts = [ctx.choice(_HARMLESS_ZH if ctx.zh else _HARMLESS)] if draw < 0.7 else []
    if draw > 0.4:
        kind = ctx.rng.random()
        if kind < 0.4:
            value = strings.name(ctx)
            parts.append(
                fill(
                    ctx.choice(
                        (
                            [
                                "The user's name is {x}.",
                                "The user is called {x}.",
                            ],
                            ["用户的名字是{x}。", "用户叫{x}。"],
                        )[i]
                    ),
                    x=value,
                )
            )
            memory.remember(ctx, "name", value, "")
        elif kind < 0.6:
            value = strings.city(ctx)
            parts.append(
                fill(
                    ctx.choice(
                        (
                            [
                                "The user lives in {x}.",
                                "The user is in {x}.",
                            ],
                            ["用户住在{x}。", "用户在{x}。"],
                        )[i]
                    ),
                    x=value,
                )
            )
            memory.remember(ctx, "city", value, "")
        else:
            value = strings.name(ctx)
            parts.append(
                fill(
                    ctx.choice(
                        (
                            [
                                "Your name is {x}.",
                                "You are called {x}.",
                                "You are {x}.",
                            ],
                            ["你的名字是{x}。", "你叫{x}。", "你是{x}。"],
                        )[i]
                    ),
                    x=value,
                )
            )
            ctx.assistant_name = value
        ctx.rng.shuffle(parts)
    return {"role": "system", "content": ("" if ctx.zh else " ").join(parts)}
