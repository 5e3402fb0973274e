"""ChatGLM-6B's wire format: rounds of a question and an answer, written as plain text.

    [Round 0]\\n问：{question}\\n答：{answer}\\n[Round 1]\\n问：{question}\\n答：[gMASK]<sop>

A first question stands alone: `{question}[gMASK]<sop>`. The only control tokens are the two behind the text, and the
`<eop>` that ends a reply; "<eop>" in a message's text is encoded as letters, while the original lets a user's text make
control tokens.

The format knows nobody but the two. A system message, which the model was not trained with, stands in front of the
conversation with a newline behind it, where people have put such texts since; tools and pictures are refused.

Replies are post-processed as in the original: white space around them goes, "[[训练时间]]" becomes "2023年", and a
half-width comma, exclamation mark, colon, semicolon or question mark next to a Chinese character becomes full-width
(the tokenizer's normalisation made them half-width). The original does that anew to all of the text so far whenever a
token comes, and takes back what it showed; here what may still change is withheld.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ..errors import InputError
from ..messages import Message, MessageLike, ToolLike, as_messages
from ..tokenizers import LanguageTokenizer
from ..tokenizers.replace import Replacements
from .assemble import collect, parse_ids
from .format import Rendered
from .reply import ParsedReply, ReplyEvent, TextDelta

NAME = "chatglm-6b"

_ROUND = "[Round {}]\n问：{}\n答："
_TRAINING_TIME = ("[[训练时间]]", "2023年")
_CHINESE = "[\u4e00-\u9fff]"
_HALF_WIDTH = ",!:;?"
_FULL_WIDTH = str.maketrans(_HALF_WIDTH, "，！：；？")
_BESIDE_CHINESE = re.compile(f"(?<={_CHINESE})[{_HALF_WIDTH}]|[{_HALF_WIDTH}](?={_CHINESE})")
_UNDECIDED = re.compile(f"(?<!{_CHINESE})[{_HALF_WIDTH}]\\Z")


def history_messages(history: Iterable[Sequence[str]], query: str) -> list[Message]:
    """The original's `history`, pairs of a question and its answer, and the next question, as messages.

    Raises InputError for what is no pair of strings.
    """
    messages: list[Message] = []
    for index, pair in enumerate(history):
        if not isinstance(pair, (list, tuple)) or [type(text) for text in pair] != [str, str]:
            raise InputError(f"history[{index}] is {pair!r}; it must be a question and its answer, both strings")
        messages += [Message("user", pair[0]), Message("assistant", pair[1])]
    return [*messages, Message("user", query)]


class ChatGLM6BFormat:
    """Chat format of ChatGLM-6B (see `ChatFormat` for the methods' contracts)."""

    name = NAME
    is_base = False

    def __init__(self, tokenizer: LanguageTokenizer) -> None:
        """tokenizer: one whose `encode` puts what begins a reply behind a text, as `IceTokenizer`'s does."""
        self._tokenizer = tokenizer

    def render(
        self,
        messages: Iterable[MessageLike],
        tools: Iterable[ToolLike] | None = None,
        add_generation_prompt: bool = True,
    ) -> list[int]:
        """The prompt as flat ids. Without `add_generation_prompt` the text alone, without [gMASK]<sop>.

        Raises InputError for messages it cannot show, that are all empty, or whose turns do not alternate.

        "你好" -> [5, 74874, 130001, 130004].
        """
        return self._encode(self._text(messages, tools, add_generation_prompt), add_generation_prompt)

    def render_text(
        self,
        messages: Iterable[MessageLike],
        tools: Iterable[ToolLike] | None = None,
        add_generation_prompt: bool = True,
    ) -> str:
        """The same prompt for people to read. Raises InputError.

        Not to encode again: `encode` puts a second [gMASK]<sop> behind it. The ids are `render`'s.
        """
        text = self._text(messages, tools, add_generation_prompt)
        return text + "[gMASK]<sop>" if add_generation_prompt else text

    def render_for_training(self, messages: Iterable[MessageLike], tools: Iterable[ToolLike] | None = None) -> Rendered:
        """Ids and loss mask of the last answer behind all that led to it: a prompt's tokens see each other, so that
        earlier answers can be no targets.

        The mask is 1 on the answer, on the `<eop>` behind it, and on the `<sop>` in front, as in the original's
        training. Raises InputError, also where the last message is not the assistant's.
        """
        checked = _checked(messages, tools)
        if checked[-1].role != "assistant":
            raise InputError(f"messages[{len(checked) - 1}] is no answer; to train, end with the assistant's message")
        prompt = self._encode(self._text(checked[:-1], None, True), True)
        answer = self._tokenizer.encode(checked[-1].text, add_special_tokens=False, parse_special=False)
        answer += sorted(self._tokenizer.stop_token_ids)
        return Rendered(prompt + answer, [0] * (len(prompt) - 1) + [1] * (1 + len(answer)))

    def parse(self, reply: str | Sequence[int], tools: Iterable[ToolLike] | None = None) -> ParsedReply:
        """A whole reply's content, up to `<eop>` and post-processed. There are no calls."""
        if not isinstance(reply, str):
            return parse_ids(reply, self._tokenizer, parser=self.reply_parser())
        parser = self.reply_parser()
        return collect(parser.push(reply) + parser.finish())

    def reply_parser(self, tools: Iterable[ToolLike] | None = None) -> ProcessedReply:
        """A parser to feed with a reply's text as it comes in."""
        return ProcessedReply()

    def _encode(self, text: str, add_special_tokens: bool) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens, parse_special=False)

    def _text(
        self, messages: Iterable[MessageLike], tools: Iterable[ToolLike] | None, add_generation_prompt: bool
    ) -> str:
        checked = _checked(messages, tools)
        system, turns = checked[0].text if checked[0].role == "system" else "", checked
        if checked[0].role == "system":
            turns = checked[1:]
        _check_turns(turns, offset=len(checked) - len(turns), must_end_with_question=add_generation_prompt)
        text = system + "\n" if system else ""
        if len(turns) == 1:
            return text + turns[0].text
        for index, message in enumerate(turns):
            text += _ROUND.format(index // 2, message.text) if message.role == "user" else message.text + "\n"
        return text


def _checked(messages: Iterable[MessageLike], tools: Iterable[ToolLike] | None) -> tuple[Message, ...]:
    """The messages, if the format has words for them. Raises InputError."""
    checked = as_messages(messages)
    if tools is not None and list(tools):
        raise InputError("tools= is given, but ChatGLM-6B knows nothing of tools; leave it out, or use GLM-4")
    for index, message in enumerate(checked):
        where = f"messages[{index}]"
        if message.tools or message.tool_calls or message.metadata or message.role == "observation":
            raise InputError(
                f"{where} has to do with tools, of which ChatGLM-6B knows nothing; leave them out, or use GLM-4"
            )
        if message.images:
            raise InputError(f"{where} has an image, but ChatGLM-6B reads text only; use a GLM-4V checkpoint")
    if not any(message.text for message in checked):
        raise InputError("every message is empty, so there is nothing to show the model; give one some content")
    return checked


def _check_turns(turns: Sequence[Message], offset: int, must_end_with_question: bool) -> None:
    """Refuse what is no sequence of questions and answers."""
    for index, message in enumerate(turns):
        expected = "user" if index % 2 == 0 else "assistant"
        if message.role != expected:
            raise InputError(
                f"messages[{index + offset}] has the role {message.role} where the {expected}'s turn is: ChatGLM-6B's "
                "conversations are a question and an answer by turns, after at most one system message"
            )
    if not turns or (must_end_with_question and len(turns) % 2 == 0):
        raise InputError("there is no question to answer; end with a message of the role user")


class ProcessedReply:
    """A reply's text, post-processed while it comes in (see `ReplyReader`).

    Withheld are white space, which may be the reply's end, what may begin "[[训练时间]]", and a punctuation mark until
    the character behind it is known, where the one in front does not decide.
    """

    def __init__(self) -> None:
        self._begun = False
        self._space: list[str] = []
        self._training_time = Replacements([_TRAINING_TIME])
        self._before = ""  # the last character let through
        self._mark = ""  # the one that is undecided

    def push(self, text: str) -> list[ReplyEvent]:
        """Take more of the reply; return what is decided now."""
        if not self._begun:
            text = text.lstrip()
        kept = text.rstrip()
        if not kept:
            self._space += [text] if text else []
            return []
        self._begun, before, self._space = True, "".join(self._space), [text[len(kept) :]]
        return _as_events(self._punctuated(self._training_time.push(before + kept)))

    def new_segment(self) -> list[ReplyEvent]:
        """Nothing: a reply is one segment."""
        return []

    def finish(self) -> list[ReplyEvent]:
        """What was withheld, but for white space."""
        rest = self._punctuated(self._training_time.finish())
        mark, self._mark = self._mark, ""
        return _as_events(rest + mark)

    def _punctuated(self, text: str) -> str:
        text = self._before + self._mark + text
        undecided = _UNDECIDED.search(text)
        self._mark = undecided[0] if undecided else ""
        decided = text[: len(text) - len(self._mark)]
        shown = _BESIDE_CHINESE.sub(lambda mark: mark[0].translate(_FULL_WIDTH), decided)[len(self._before) :]
        self._before = shown[-1:] or self._before
        return shown


def _as_events(text: str) -> list[ReplyEvent]:
    return [TextDelta(text)] if text else []
