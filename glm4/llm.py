"""LLM: a loaded checkpoint. Tokenizer, chat format and engine behind one object."""

from __future__ import annotations

import operator
import uuid
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, overload

import torch
from torch import Tensor

from .chat import ChatTokenizer, Piece, ReplyAssembler
from .engine.generate import Step, generate
from .errors import CheckpointError, InputError, PromptTooLong
from .memory import memory_errors_explained
from .messages import MessageLike, Tool, ToolLike, as_messages, declared_tools
from .models.glm import GLM
from .outputs import Completion, Delta, FinishReason, Reply, Usage
from .sampling import SamplingParams
from .tokenizers import Detokenizer

Messages = Iterable[MessageLike]
Tools = Iterable[ToolLike] | None
Prompt = str | Sequence[int]


class LLM:
    """A loaded checkpoint. Made by `load_model`.

    Attributes:
        name: what was loaded.
        context: tokens that prompt and reply may have together.
        stop_token_ids: the end tokens, gathered from config.json, generation_config.json and the tokenizer.
        default_sampling: what the checkpoint's generation_config.json asks for; every call may change any of it.
        model: the torch module.
    """

    def __init__(
        self,
        model: GLM,
        tokenizer: ChatTokenizer | None,
        *,
        name: str,
        stop_token_ids: frozenset[int],
        default_sampling: SamplingParams,
        context: int,
        why_no_tokenizer: str = "the checkpoint came without a tokenizer",
    ) -> None:
        self.model = model
        self._tokenizer, self._why_no_tokenizer = tokenizer, why_no_tokenizer
        self.name = name
        self.stop_token_ids = stop_token_ids
        self.default_sampling = default_sampling
        self.context = context

    def __repr__(self) -> str:
        return f"LLM({self.name!r}, {self.dtype}, {self.device}, context={self.context})"

    @property
    def tokenizer(self) -> ChatTokenizer:
        """The tokenizer and chat format.

        Raises:
            CheckpointError: the checkpoint came without one; names the missing file.
        """
        if self._tokenizer is None:
            raise CheckpointError(self._why_no_tokenizer)
        return self._tokenizer

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are held in."""
        return self.model.embed_tokens.weight.dtype

    def chat(
        self,
        messages: Messages,
        tools: Tools = None,
        *,
        sampling_params: SamplingParams | None = None,
        **sampling: Any,
    ) -> Reply:
        """The model's reply to a conversation.

        Args:
            messages: dictionaries in OpenAI's form or the original's, or `Message` objects.
            tools: what the model may ask to have called.
            sampling_params: in place of the checkpoint's defaults.
            **sampling: any of `SamplingParams`' fields, on top of either.

        Raises:
            InputError: messages, tools or parameters that cannot be used; PromptTooLong: no room left for a reply.

        Warns:
            UserWarning: the checkpoint is a base model, not trained to chat.
        """
        params = self._params(sampling_params, sampling)
        prompt, known_tools = self._chat_prompt(messages, tools)
        replies = [_whole(self._chat_deltas(prompt, known_tools, one), params) for one in params.singles()]
        return replace(replies[0], other_choices=tuple(replies[1:]))

    def stream(
        self,
        messages: Messages,
        tools: Tools = None,
        *,
        sampling_params: SamplingParams | None = None,
        **sampling: Any,
    ) -> Iterator[Delta]:
        """As `chat`, piece by piece: the pieces' texts and calls joined are the whole reply's.

        Arguments are checked at once, not at the first piece. Closing the iterator ends the work.
        """
        params = self._params(sampling_params, sampling)
        if params.n != 1:
            raise InputError(f"stream gives one reply, n is {params.n}; call chat, or stream n times")
        return self._chat_deltas(*self._chat_prompt(messages, tools), params)

    @overload
    def generate(
        self, prompt: Prompt, sampling_params: SamplingParams | None = None, **sampling: Any
    ) -> Completion: ...
    @overload
    def generate(
        self, prompt: Sequence[Prompt], sampling_params: SamplingParams | None = None, **sampling: Any
    ) -> list[Completion]: ...
    def generate(
        self, prompt: Prompt | Sequence[Prompt], sampling_params: SamplingParams | None = None, **sampling: Any
    ) -> Completion | list[Completion]:
        """What follows a prompt, without any chat format.

        Args:
            prompt: text (encoded with the `[gMASK]<sop>` prefix), token ids as they are, or a list of such prompts.
            sampling_params: in place of the checkpoint's defaults.
            **sampling: any of `SamplingParams`' fields, on top of either.

        Returns:
            A `Completion`; a list of them, in order, for a list of prompts.

        Raises:
            InputError: an empty prompt, an id out of range, a parameter that cannot be used.
            PromptTooLong: no room left in the context. All prompts are checked before the first is computed.
        """
        params = self._params(sampling_params, sampling)
        values = _plain(prompt)
        if isinstance(values, (str, bytes)) or (isinstance(values, Sequence) and values and _is_integer(values[0])):
            return self._complete(self._prompt_ids(values), params)
        if not isinstance(values, Sequence) or not values:
            raise InputError(f"the prompt is {prompt!r}; pass text, token ids, or a list of either")
        return [self._complete(ids, params) for ids in [self._prompt_ids(value) for value in values]]

    @torch.no_grad()
    def logits(
        self,
        ids: Sequence[Sequence[int]] | Sequence[int] | Tensor,
        position_ids: Sequence[Sequence[int]] | Tensor | None = None,
        attention_mask: Sequence[Sequence[int]] | Tensor | None = None,
    ) -> Tensor:
        """Next-token logits at every position, in one forward pass.

        Args:
            ids: [B, T], or [T] for a batch of one.
            position_ids: [B, T]; by default 0, 1, ... over the tokens that are not padding, and 0 for padding.
            attention_mask: [B, T], 1 for tokens and 0 for padding; None where nothing is padded.

        Returns:
            float32 [B, T, V], on the model's device. Rows of padding tokens mean nothing.

        Raises:
            InputError: shapes that do not agree, or an id, position or mask value out of range.
        """
        tokens = self._integers("ids", ids, upper=self.model.config.vocab_size)
        if tokens.shape[1] > self.context:
            raise PromptTooLong(f"{tokens.shape[1]} tokens are given, the context is {self.context}; shorten them")
        valid = None
        if attention_mask is not None:
            valid = self._integers("attention_mask", attention_mask, upper=2, like=tokens).bool()
        if position_ids is not None:
            positions = self._integers("position_ids", position_ids, upper=self.model.config.max_positions, like=tokens)
        elif valid is not None:
            positions = (valid.cumsum(1) - 1).clamp(min=0)
        else:
            positions = torch.arange(tokens.shape[1], device=self.device).expand_as(tokens)
        padded = valid if valid is not None and not valid.all() else None
        rows = f"[{tokens.shape[0]}, {tokens.shape[1]}, {self.model.config.vocab_size}]"
        with memory_errors_explained(f"float32 logits {rows}", "Pass fewer tokens at a time"):
            return self.model.logits(self.model(self.model.embed(tokens), positions, valid=padded))

    def _integers(self, name: str, values: Any, *, upper: int, like: Tensor | None = None) -> Tensor:
        try:
            tensor = torch.as_tensor(values)
        except (ValueError, TypeError, RuntimeError) as error:
            raise InputError(f"{name} is not a rectangle of integers: {error}") from error
        tensor = tensor[None] if tensor.ndim == 1 else tensor
        is_integer = not tensor.is_floating_point() and not tensor.is_complex()
        is_integer &= tensor.dtype != torch.bool or name == "attention_mask"
        if tensor.ndim != 2 or not tensor.numel() or not is_integer:
            raise InputError(f"{name} must be integers [B, T], not {tensor.dtype} of shape {list(tensor.shape)}")
        if like is not None and tensor.shape != like.shape:
            raise InputError(f"{name} has shape {list(tensor.shape)}, the ids have {list(like.shape)}")
        tensor = tensor.long()  # torch finds no minimum of unsigned integers
        low, high = int(tensor.min()), int(tensor.max())
        if low < 0 or high >= upper:
            raise InputError(f"{name} holds {low if low < 0 else high}; it must be from 0 to {upper - 1}")
        return tensor.to(self.device)

    def _chat_prompt(self, messages: Messages, tools: Tools) -> tuple[list[int], tuple[Tool, ...]]:
        """The conversation as ids, and every tool it declares."""
        if self.tokenizer.format.is_base:
            warnings.warn(
                f"{self.name} is a base model: it continues text and was not trained to chat. Load a -chat checkpoint, "
                "or use generate()",
                stacklevel=3,
            )
        known = as_messages(messages, tools)
        ids = self.tokenizer.render(known)
        self._check_prompt(ids)
        return ids, declared_tools(known)

    def _params(self, sampling_params: SamplingParams | None, changes: dict[str, Any]) -> SamplingParams:
        if sampling_params is not None and not isinstance(sampling_params, SamplingParams):
            raise InputError(f"sampling_params is {sampling_params!r}; pass a SamplingParams, or its fields by name")
        return (sampling_params or self.default_sampling).updated(changes)

    def _prompt_ids(self, prompt: Any) -> list[int]:
        prompt = _plain(prompt)
        if isinstance(prompt, str):
            if not prompt:
                raise InputError("the prompt is empty; pass some text")
            ids = self.tokenizer.encode(prompt)
        elif isinstance(prompt, Sequence) and not isinstance(prompt, bytes):
            ids = [operator.index(i) if _is_integer(i) else i for i in prompt]
        else:
            raise InputError(f"the prompt is {prompt!r}; pass text or token ids")
        self._check_prompt(ids)
        return ids

    def _check_prompt(self, ids: Sequence[int]) -> None:
        if not ids:
            raise InputError("the prompt is empty; pass at least one token id")
        vocab_size = self.model.config.vocab_size
        for i in ids:
            if not _is_integer(i) or not 0 <= i < vocab_size:
                raise InputError(f"the prompt holds {i!r}; token ids of {self.name} are from 0 to {vocab_size - 1}")
        if len(ids) >= self.context:
            trained = self.model.config.max_positions
            larger = f", or load with a max_context up to {trained}" if self.context < trained else ""
            raise PromptTooLong(
                f"the prompt has {len(ids)} tokens, and the context of {self.name} is {self.context}, reply included; "
                f"shorten it{larger}"
            )

    def _steps(self, prompt: list[int], params: SamplingParams) -> Iterator[Step]:
        doing = f"a prompt of {len(prompt)} tokens and its reply"
        with memory_errors_explained(doing, "Pass max_tokens=, or load with a smaller max_context="):
            yield from generate(self.model, prompt, params, self.stop_token_ids, self.context)

    def _complete(self, prompt: list[int], params: SamplingParams) -> Completion:
        done = [self._complete_one(prompt, one) for one in params.singles()]
        return replace(done[0], other_choices=tuple(done[1:]))

    def _complete_one(self, prompt: list[int], params: SamplingParams) -> Completion:
        # Stop strings cannot be matched without a tokenizer: asking for it says so.
        tokenizer = self.tokenizer if params.stop else self._tokenizer
        text = None if tokenizer is None else Detokenizer(tokenizer.tokenizer, stop=params.stop)
        pieces, ids, logprobs = [], [], []
        reason: FinishReason = "length"
        for step in self._steps(prompt, params):
            ids.append(step.token_id)
            if step.logprob is not None:
                logprobs.append(step.logprob)
            if text is not None and step.finish_reason != "stop":
                pieces.append(text.push(step.token_id))
                if text.stopped is not None:
                    reason = "stop"
                    break
            reason = step.finish_reason or reason
        if text is not None:
            pieces.append(text.finish())
        return Completion(
            token_ids=ids,
            finish_reason=reason,
            usage=Usage(len(prompt), len(ids)),
            logprobs=None if params.logprobs is None else logprobs,
            decoded=None if text is None else "".join(pieces),
            why_not_decoded=self._why_no_tokenizer,
        )

    def _chat_deltas(self, prompt: list[int], tools: tuple[Tool, ...], params: SamplingParams) -> Iterator[Delta]:
        """The one loop from new ids to pieces of a reply."""
        tokenizer = self.tokenizer
        reply = ReplyAssembler(tokenizer.tokenizer, tokenizer.reply_parser(tools), params.stop)
        for count, step in enumerate(self._steps(prompt, params), start=1):
            # The token that ends a reply is not part of its text.
            text, calls = reply.push(step.token_id) if step.finish_reason != "stop" else Piece()
            reason: FinishReason | None = step.finish_reason
            if reason is not None or reply.stopped is not None:
                rest, last_calls = reply.finish()  # may end in a stop string too: some text is withheld until now
                text, calls = text + rest, calls + last_calls
                reason = "stop" if reply.stopped is not None else reason
                reason = "tool_calls" if reason == "stop" and reply.called else reason
            yield Delta(
                text=text,
                tool_calls=tuple(replace(call, id=f"call_{uuid.uuid4().hex}") for call in calls),
                token_ids=(step.token_id,),
                logprobs=() if step.logprob is None else (step.logprob,),
                finish_reason=reason,
                usage=None if reason is None else Usage(len(prompt), count),
            )
            if reason is not None:
                return


def _whole(deltas: Iterable[Delta], params: SamplingParams) -> Reply:
    """A stream's pieces as one reply."""
    pieces = list(deltas)
    last = pieces[-1]
    if last.finish_reason is None or last.usage is None:
        raise RuntimeError("a stream of deltas ended without a finish reason")
    return Reply(
        content="".join(piece.text for piece in pieces),
        tool_calls=tuple(call for piece in pieces for call in piece.tool_calls),
        finish_reason=last.finish_reason,
        usage=last.usage,
        token_ids=[i for piece in pieces for i in piece.token_ids],
        logprobs=None if params.logprobs is None else [entry for piece in pieces for entry in piece.logprobs],
    )


def _plain(prompt: Any) -> Any:
    """A tensor's or an array's numbers as lists; anything else as it is."""
    return prompt.tolist() if hasattr(prompt, "tolist") else prompt


def _is_integer(value: object) -> bool:
    """Whether a value is an integer, numpy's included, and no bool."""
    return hasattr(value, "__index__") and not isinstance(value, bool)
