"""A conversation as plain values: what a caller says, before any tokenizer or template has seen it.

Two ways of writing it down are read by `as_messages`, and may be mixed in one list:

- the original GLM-4 form: `{"role", "metadata", "content"}`, tools inside the system message, tool results under the
  role `observation`, a picture under the key `image`;
- the OpenAI form: `tools=[...]` beside the messages, `tool_calls` on the assistant's message, results under the role
  `tool`, content as a list of parts.

Standard library only, so that a web server's front or a test can use it without torch or a tokenizer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, cast

from .errors import InputError, ToolCallError

Role: TypeAlias = Literal["system", "user", "assistant", "observation"]
ToolType: TypeAlias = Literal["function", "python", "simple_browser", "cogview"]

ROLES: tuple[Role, ...] = ("system", "user", "assistant", "observation")
BUILTIN_TOOLS: frozenset[str] = frozenset({"python", "simple_browser", "cogview"})
"""Tools whose argument is code, a browser command or a picture's description, not JSON; their prompt text is fixed."""

# OpenAI's names of the same roles; `function` is its name of `tool` from before 2023-11.
_ROLE_ALIASES: Mapping[str, Role] = {"tool": "observation", "function": "observation", "developer": "system"}


@dataclass(frozen=True)
class TextPart:
    """A piece of text inside a message's content."""

    text: str


@dataclass(frozen=True)
class ImagePart:
    """A picture inside a message's content, not yet opened: a PIL image, a path, a URL or base64 data URL, or bytes. A
    list of them is several pictures in one place, which InternVL-Chat-V1-1 knows (it calls them combined)."""

    image: object


Content: TypeAlias = str | tuple[TextPart | ImagePart, ...]


@dataclass(frozen=True)
class Tool:
    """A tool the model may call.

    `function` is the JSON schema of a function tool (`name`, `description`, `parameters`), key order kept because the
    prompt shows it as it is; None for the built-in `python`, `simple_browser` and `cogview`.
    """

    type: ToolType = "function"
    function: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """What the model writes to call it."""
        return self.type if self.function is None else str(self.function["name"])


@dataclass(frozen=True)
class ToolCall:
    """A call the assistant made. `arguments` is JSON text, or code / free text for the built-in tools."""

    name: str
    arguments: str
    id: str | None = None


@dataclass(frozen=True)
class Message:
    """One message. `metadata` is what the wire format puts between the role and the newline: a tool's name, or empty.

    `tools` None means that the message declares none; an empty tuple is an empty declaration, which the chat
    checkpoints' templates render differently (they still print the header).
    """

    role: Role
    content: Content = ""
    metadata: str = ""
    tools: tuple[Tool, ...] | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        """The content's text; several text parts are joined by newlines, pictures left out."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content if isinstance(part, TextPart))

    @property
    def images(self) -> tuple[object, ...]:
        """The content's pictures, in order: what each part that is one holds."""
        if isinstance(self.content, str):
            return ()
        return tuple(part.image for part in self.content if isinstance(part, ImagePart))

    @property
    def pictures(self) -> tuple[object, ...]:
        """The content's pictures one by one: those of a part that holds a list of them, one after the other."""
        return tuple(
            picture for image in self.images for picture in (image if isinstance(image, (list, tuple)) else (image,))
        )


MessageLike: TypeAlias = Message | Mapping[str, Any]
ToolLike: TypeAlias = Tool | Mapping[str, Any]


def as_messages(messages: Iterable[MessageLike], tools: Iterable[ToolLike] | None = None) -> tuple[Message, ...]:
    """Check a conversation in either form and return it as `Message` values.

    `tools` beside the messages are put on the leading system message (one with no content is made where there is
    none); an empty list means no tools. Lone surrogates in text, which no tokenizer can encode, become U+FFFD.

    Raises InputError naming the message's index, the value and the remedy; ToolCallError for tools and tool calls.
    """
    if isinstance(messages, (str, bytes, Mapping, Message)) or not isinstance(messages, Iterable):
        raise InputError(
            f'messages must be a list of messages, not {_show(messages)}; write [{{"role": "user", "content": "..."}}]'
        )
    checked = tuple(_message(message, index) for index, message in enumerate(messages))
    if not checked:
        raise InputError('messages is empty; pass at least one, such as [{"role": "user", "content": "..."}]')
    return with_tools(checked, tools)


def with_tools(messages: tuple[Message, ...], tools: Iterable[ToolLike] | None) -> tuple[Message, ...]:
    """Put `tools` on the leading system message of checked messages, as `as_messages` does.

    For who has something to say about the messages by their indices, which a new system message would shift.
    """
    declared = () if tools is None else as_tools(tools)
    if not declared:
        return messages
    for index, message in enumerate(messages):
        if message.tools:
            raise InputError(f"tools are given twice: in messages[{index}] and as tools=; keep one of the two")
    if messages[0].role == "system":
        return (replace(messages[0], tools=declared), *messages[1:])
    return (Message("system", tools=declared), *messages)


def as_tools(tools: Iterable[ToolLike], where: str = "tools") -> tuple[Tool, ...]:
    """Check a list of tools: `{"type": "function", "function": {...}}`, a bare schema, or `{"type": "python"}`.

    `where` names the list in errors. Raises ToolCallError.
    """
    if isinstance(tools, (str, bytes, Mapping, Tool)) or not isinstance(tools, Iterable):
        raise ToolCallError(f"{where} must be a list of tools, not {_show(tools)}")
    return tuple(_tool(tool, f"{where}[{index}]") for index, tool in enumerate(tools))


def declared_tools(messages: Sequence[Message]) -> tuple[Tool, ...]:
    """All tools that the messages declare, in order: what a reply has to be parsed with."""
    return tuple(tool for message in messages for tool in message.tools or ())


def _message(message: object, index: int) -> Message:
    where = f"messages[{index}]"
    if isinstance(message, Message):
        raw: Mapping[str, Any] = {
            "role": message.role, "content": message.content, "metadata": message.metadata, "tools": message.tools,
            "tool_calls": message.tool_calls, "tool_call_id": message.tool_call_id,
        }  # fmt: skip
    elif isinstance(message, Mapping):
        raw = message
    else:
        raise InputError(
            f'{where} is {_show(message)}; a message is a dict such as {{"role": "user", "content": "..."}}'
        )

    role = _role(raw.get("role"), where)
    metadata = raw.get("metadata")
    if metadata is not None and not isinstance(metadata, str):
        raise InputError(f"{where}.metadata is {_show(metadata)}; it must be a string")
    if metadata and ("\n" in metadata or "\r" in metadata):
        raise InputError(f"{where}.metadata is {_show(metadata)}; it must be one line, a newline ends it on the wire")
    tools = raw.get("tools")
    tool_calls = _tool_calls(raw, role, where)
    tool_call_id = raw.get("tool_call_id")
    if tool_call_id is not None and not isinstance(tool_call_id, str):
        raise InputError(f"{where}.tool_call_id is {_show(tool_call_id)}; it must be a string")
    return Message(
        role=role,
        content=_content(raw, role, where, may_be_absent=role == "assistant" or tools is not None),
        metadata=_clean(metadata or ""),
        tools=None if tools is None else as_tools(tools, f"{where}.tools"),
        tool_calls=tool_calls,
        tool_call_id=tool_call_id,
    )


def _role(role: object, where: str) -> Role:
    if isinstance(role, str):
        if role in ROLES:
            return role
        if role in _ROLE_ALIASES:
            return _ROLE_ALIASES[role]
    known = ", ".join((*ROLES, *_ROLE_ALIASES))
    raise InputError(f"{where}.role is {_show(role)}; it must be one of {known}")


def _content(raw: Mapping[str, Any], role: Role, where: str, may_be_absent: bool) -> Content:
    content = raw.get("content")
    image = raw.get("image")
    parts: list[TextPart | ImagePart] = [] if image is None else [ImagePart(image)]
    if content is None:
        if not may_be_absent and not parts:
            raise InputError(f'{where}.content is missing; pass a string, "" for an empty one')
    elif isinstance(content, str):
        if not parts:
            return _clean(content)
        parts.append(TextPart(_clean(content)))
    elif isinstance(content, Iterable) and not isinstance(content, (bytes, Mapping)):
        parts += [_part(part, f"{where}.content[{i}]") for i, part in enumerate(content)]
    else:
        raise InputError(f"{where}.content is {_show(content)}; it must be a string or a list of parts")
    if role != "user" and any(isinstance(part, ImagePart) for part in parts):
        raise InputError(f"{where} has an image under the role {role}; only a user message can show one")
    return tuple(parts) if parts else ""


def _part(part: object, where: str) -> TextPart | ImagePart:
    if isinstance(part, ImagePart):
        return part
    if isinstance(part, TextPart):
        return TextPart(_text(part.text, f"{where}.text"))
    if isinstance(part, str):
        return TextPart(_clean(part))
    if isinstance(part, Mapping):
        kind = part.get("type")
        if kind == "text":
            return TextPart(_text(part.get("text"), f"{where}.text"))
        if kind in ("image_url", "image"):
            image = part.get("image_url", part.get("image", part.get("url")))
            if isinstance(image, Mapping):
                image = image.get("url")
            if image is None:
                raise InputError(
                    f'{where} of type {kind} holds no image; write {{"type": "{kind}", "{kind}": {{"url": "..."}}}}'
                )
            return ImagePart(image)
        raise InputError(f"{where}.type is {_show(kind)}; it must be text, image_url or image")
    raise InputError(f'{where} is {_show(part)}; a part is a dict such as {{"type": "text", "text": "..."}}')


def _text(text: object, where: str) -> str:
    if not isinstance(text, str):
        raise InputError(f"{where} is {_show(text)}; it must be a string")
    return _clean(text)


def _tool_calls(raw: Mapping[str, Any], role: Role, where: str) -> tuple[ToolCall, ...]:
    calls = raw.get("tool_calls")
    if calls is None and raw.get("function_call") is not None:
        calls = [{"function": raw["function_call"]}]  # OpenAI's form from before tool_calls
    if not calls:
        return ()
    if role != "assistant":
        raise ToolCallError(f"{where} has tool_calls under the role {role}; only the assistant calls tools")
    if isinstance(calls, (str, bytes, Mapping)) or not isinstance(calls, Iterable):
        raise ToolCallError(f"{where}.tool_calls must be a list, not {_show(calls)}")
    return tuple(_tool_call(call, f"{where}.tool_calls[{i}]") for i, call in enumerate(calls))


def _tool_call(call: object, where: str) -> ToolCall:
    if isinstance(call, ToolCall):
        return ToolCall(_name(call.name, f"{where}.name"), _clean(_text(call.arguments, f"{where}.arguments")), call.id)
    if not isinstance(call, Mapping):
        raise ToolCallError(
            f'{where} is {_show(call)}; a call is {{"type": "function", "function": {{"name": ..., "arguments": ...}}}}'
        )
    body = call.get("function", call)
    if not isinstance(body, Mapping):
        raise ToolCallError(f"{where}.function is {_show(body)}; it must be a dict with name and arguments")
    name = _name(body.get("name"), f"{where}.function.name")
    arguments = body.get("arguments")
    if isinstance(arguments, (Mapping, list)):
        arguments = _json(arguments, f"{where}.function.arguments")
    elif arguments is None or arguments == "":
        # Clients send nothing for a function without parameters; the wire format needs an object to show the call.
        arguments = "" if name in BUILTIN_TOOLS else "{}"
    elif not isinstance(arguments, str):
        raise ToolCallError(f"{where}.function.arguments is {_show(arguments)}; it must be JSON text or a dict")
    call_id = call.get("id")
    if call_id is not None and not isinstance(call_id, str):
        raise ToolCallError(f"{where}.id is {_show(call_id)}; it must be a string")
    return ToolCall(name, _clean(arguments), call_id)


def _tool(tool: object, where: str) -> Tool:
    if isinstance(tool, Tool):
        function: object = tool.function
        kind: object = tool.type
    elif isinstance(tool, Mapping):
        kind = tool.get("type", "function")
        # {"type": "function", "name": ...} and {"name": ...} are the schema itself, not wrapped.
        bare = {key: value for key, value in tool.items() if key != "type"}
        function = tool.get("function", bare if "name" in tool else None)
    else:
        raise ToolCallError(f"{where} is {_show(tool)}; a tool is a dict with type and function")
    if kind in BUILTIN_TOOLS:
        return Tool(cast(ToolType, kind))
    if kind != "function":
        raise ToolCallError(f"{where}.type is {_show(kind)}; it must be function, {', '.join(sorted(BUILTIN_TOOLS))}")
    if not isinstance(function, Mapping):
        raise ToolCallError(f"{where}.function is {_show(function)}; it must be a dict with at least a name")
    _name(function.get("name"), f"{where}.function.name")
    _json(function, f"{where}.function")
    return Tool("function", dict(function))


def _name(name: object, where: str) -> str:
    if not isinstance(name, str) or not name:
        raise ToolCallError(f"{where} is {_show(name)}; a tool needs a name")
    if name != name.strip() or len(name.splitlines()) > 1:
        raise ToolCallError(f"{where} is {_show(name)}; a name is one line without spaces around it")
    return _clean(name)


def _json(value: object, where: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ToolCallError(
            f"{where} cannot be written as JSON ({error}); use dicts, lists, strings, numbers"
        ) from None


def _clean(text: str) -> str:
    """Lone surrogates (from broken JSON escapes) are no text: pair them where they pair, else U+FFFD."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _show(value: object) -> str:
    shown = repr(value)
    return f"{shown if len(shown) <= 80 else shown[:77] + '...'} ({type(value).__name__})"
