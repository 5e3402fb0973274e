"""Runs a chat template that came with a checkpoint: the dialect transformers runs it in, fenced in.

The template is somebody else's program. It sees plain values only, reaches no Python internals, and is stopped when it
takes too long or writes too much. What is left to it is a burst of work inside a single filter call.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NoReturn

import jinja2
import jinja2.meta
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.filters import do_format
from jinja2.parser import Parser
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from ..errors import ConfigError, InputError

MAX_CHARACTERS = 64 * 1024 * 1024
TIMEOUT_S = 10.0
_MAX_WIDTH = 100_000
_WIDE_FORMAT = re.compile(r"%[^%a-zA-Z]*\d{5}|\{[^{}]*:[^{}]*\d{5}")

GENERATION_START = "_generation_start"
GENERATION_END = "_generation_end"
"""Names of the variables whose text marks both ends of a `{% generation %}` block in what is rendered."""


class _Refused(jinja2.TemplateError):
    """The template called raise_exception: it does not take these messages."""


class _TooMuch(jinja2.TemplateError):
    """The template went past a limit."""


class ChatTemplate:
    """A compiled template. Raises ConfigError if it does not compile."""

    def __init__(self, source: str) -> None:
        environment = _Environment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
        )
        environment.filters |= {"tojson": _tojson, "_counted": _counted, "_joined": _joined}
        environment.filters |= {name: _bounded(environment.filters[name]) for name in ("center", "indent", "format")}
        environment.globals.pop("lipsum")  # makes text at will
        environment.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now}
        try:
            tree = environment.parse(source)
            self.variables = frozenset(jinja2.meta.find_undeclared_variables(tree))
            """Names it reads from outside, such as "tools"."""
            code = environment.compile(_Limits().visit(tree))
        except (jinja2.TemplateError, RecursionError) as error:
            line = f", line {error.lineno}" if isinstance(error, jinja2.TemplateSyntaxError) else ""
            raise ConfigError(
                f"the checkpoint's chat template does not compile{line}: {error}; repair chat_template in "
                "tokenizer_config.json (or chat_template.jinja), or copy the original's"
            ) from None
        self._template = jinja2.Template.from_code(environment, code, environment.make_globals(None))

    def render(self, variables: Mapping[str, Any]) -> str:
        """Run it. Raises InputError if the template refuses the messages, ConfigError if it fails or is stopped."""
        deadline = time.monotonic() + TIMEOUT_S
        pieces: list[str] = []
        n_characters = 0
        try:
            for piece in self._template.generate(dict(variables), _deadline=deadline):
                pieces.append(piece)
                n_characters += len(piece)
                _check(n_characters, deadline)
        except _Refused as error:
            raise InputError(f"the checkpoint's chat template refuses these messages: {error}") from None
        except (SecurityError, _TooMuch) as error:
            raise ConfigError(f"the checkpoint's chat template does what no template may: {error}") from None
        except Exception as error:
            # Whatever an expression can raise: TypeError, ZeroDivisionError, UndefinedError, RecursionError...
            raise ConfigError(
                f"the checkpoint's chat template failed on these messages: {type(error).__name__}: {error}"
            ) from error
        return "".join(pieces)


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(["*", "**", "+", "%"])

    def unsafe_undefined(self, obj: Any, attribute: str) -> NoReturn:
        # Jinja's own answer is a value that fails on use but prints as nothing; an attempt should be heard of.
        raise SecurityError(f"it reads attribute {attribute!r} of a {type(obj).__name__}")

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        sizes = [len(side) if isinstance(side, (str, list, tuple)) else 0 for side in (left, right)]
        if operator == "%" and isinstance(left, str):
            _check_format(left)
        elif operator == "*":
            counts = [side for side in (left, right) if isinstance(side, int)]
            _check(sum(sizes) * max(counts, default=1), context.get("_deadline"))
        elif operator == "**" and not (isinstance(right, (int, float)) and abs(right) <= 64):
            raise _TooMuch(f"it raises to the power of {right!r}")
        else:
            _check(sum(sizes), context.get("_deadline"))
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        # ljust, zfill, format and the like make text as long as a number says.
        method = getattr(function, "__wrapped__", function)
        owner = getattr(method, "__self__", None)
        if isinstance(owner, str):
            _check_widths((*args, *kwargs.values()))
            if method.__name__ in ("format", "format_map"):
                _check_format(owner)
        return super().call(context, function, *args, **kwargs)


class _Generation(Extension):
    """`{% generation %}...{% endgeneration %}` marks what the assistant wrote, for training."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own way of declaring it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        start, end = (
            nodes.Output([nodes.Name(name, "load")]).set_lineno(line) for name in (GENERATION_START, GENERATION_END)
        )
        return [start, *body, end]


class _Limits(NodeTransformer):
    """Sends loops and joins of text through filters that look at the limits."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        node.iter = _filter(node.iter, "_counted", node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:
        self.generic_visit(node)
        return _filter(nodes.List(node.nodes, lineno=node.lineno), "_joined", node.lineno)


def _filter(value: nodes.Node, name: str, line: int) -> nodes.Filter:
    return nodes.Filter(value, name, [], [], None, None, lineno=line)


@jinja2.pass_context
def _counted(context: Context, items: Iterable[Any]) -> Iterable[Any]:
    if isinstance(items, Undefined):
        return items  # its own error or emptiness
    return _until_deadline(items, context.get("_deadline"))


def _until_deadline(items: Iterable[Any], deadline: float | None) -> Iterator[Any]:
    for item in items:
        _check(0, deadline)
        yield item


@jinja2.pass_context
def _joined(context: Context, items: list[Any]) -> str:
    texts = [str(item) for item in items]
    _check(sum(map(len, texts)), context.get("_deadline"))
    return "".join(texts)


def _bounded(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that pads text, checked like the methods that do."""

    def checked(*args: Any, **kwargs: Any) -> Any:
        _check_widths((*args, *kwargs.values()))
        if function is do_format:
            _check_format(str(args[0]))
        return function(*args, **kwargs)

    return checked


def _check_widths(values: Iterable[Any]) -> None:
    for value in values:
        if isinstance(value, int) and value > _MAX_WIDTH:
            raise _TooMuch(f"it pads text to {value} characters")


def _check_format(text: str) -> None:
    if _WIDE_FORMAT.search(text):
        raise _TooMuch("it formats text with a width of more than four digits")


def _check(n_characters: int, deadline: float | None) -> None:
    if n_characters > MAX_CHARACTERS:
        raise _TooMuch(f"it makes a text or list of more than {MAX_CHARACTERS} characters")
    if deadline is not None and time.monotonic() > deadline:
        raise _TooMuch(f"it runs for more than {TIMEOUT_S:g} s")


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As transformers has it: unlike Jinja's own, it does not escape <, >, & and ' for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: object) -> NoReturn:
    raise _Refused(str(message))


def _strftime_now(format: str) -> str:
    return datetime.now().strftime(format)
