"""LLM: tokenizer, chat format and engine behind one object; `load_model` makes it."""

from __future__ import annotations

import os
import uuid
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor

from .chat import CallArguments, CallEnd, CallStart, ChatTokenizer, ReplyEvent, ReplyParser, TextDelta
from .checkpoints import load_model_weights, read_architecture, read_json
from .engine.generate import Step, generate
from .engine.sampler import TokenLogprob
from .errors import CheckpointError, ConfigError, InputError, PromptTooLong
from .hub import DEFAULT_MODEL, resolve_folder
from .messages import MessageLike, Tool, ToolCall, ToolLike, as_messages, declared_tools
from .models.glm import GLM
from .outputs import Completion, Delta, FinishReason, Reply, Usage
from .sampling import SamplingParams, defaults_from
from .tokenizers import Detokenizer

Messages = Iterable[MessageLike]
Tools = Iterable[ToolLike] | None
Prompt = str | Sequence[int]


def load_model(
    model: str | os.PathLike[str] | None = None,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    revision: str | None = None,
    max_context: int | None = None,
) -> LLM:
    """Load a checkpoint for inference. No code that comes with it is run.

    Args:
        model: a folder as downloaded, in the original layout or transformers'; a hub id such as
            "THUDM/glm-4-9b-chat"; None for the small default model in the package.
        device: "cpu", "cuda", "cuda:1", "mps"; "auto" takes a GPU if there is one.
        dtype: "bfloat16", "float16" or "float32"; "auto" takes the checkpoint's own.
        revision: branch, tag or commit on the hub.
        max_context: tokens that prompt and reply may have together; None for all the checkpoint was trained for.

    Raises:
        CheckpointError: files missing, damaged or not fitting together; the hub out of reach.
        ConfigError: a family this library does not know, or a fact of the architecture missing.
        InputError: an argument that cannot be honoured.
    """
    folder = resolve_folder(model, revision)
    architecture = read_architecture(folder)
    trained = architecture.config.max_positions
    if max_context is not None and (isinstance(max_context, bool) or not 1 <= max_context <= trained):
        raise InputError(f"max_context is {max_context!r}; {folder} was trained for {trained}, pass 1 to {trained}")
    generation_file = folder / "generation_config.json"
    generation_config = read_json(generation_file) if generation_file.is_file() else {}
    place, kind = _device(device), _dtype(dtype, architecture.dtype)
    tokenizer = _tokenizer(folder)
    return LLM(
        load_model_weights(folder, architecture, dtype=kind, device=place),
        tokenizer,
        name="default" if folder == DEFAULT_MODEL else str(model),
        stop_token_ids=_stop_ids(architecture.raw, generation_config, tokenizer),
        default_sampling=defaults_from(generation_config),
        context=max_context or trained,
    )


def _device(device: str | torch.device) -> torch.device:
    if device == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return accelerator or torch.device("cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {str(device)!r} cannot be used: {str(error).splitlines()[0]}") from error


def _dtype(dtype: str | torch.dtype, stored: str | None) -> torch.dtype:
    known = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
    if dtype == "auto":
        return known.get(stored or "", torch.bfloat16)
    found = dtype if dtype in known.values() else known.get(str(dtype))
    if not isinstance(found, torch.dtype):
        raise InputError(f"dtype is {dtype!r}; known: auto, {', '.join(known)}")
    return found


def _tokenizer(folder: Path) -> ChatTokenizer | CheckpointError:
    """The folder's tokenizer; if it has none, the error that says so, to raise where text is asked for."""
    try:
        return ChatTokenizer.load(folder)
    except CheckpointError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return error
        raise


def _stop_ids(
    config: Any, generation_config: dict[str, Any], tokenizer: ChatTokenizer | CheckpointError
) -> frozenset[int]:
    """All end tokens: any one of the three places may have lost some of them."""
    ids = set() if isinstance(tokenizer, CheckpointError) else set(tokenizer.stop_token_ids)
    for source in (config, generation_config):
        value = source.get("eos_token_id")
        values = value if isinstance(value, list) else [] if value is None else [value]
        if not all(isinstance(i, int) and not isinstance(i, bool) for i in values):
            raise ConfigError(f"eos_token_id is {value!r}, expected a token id or a list of them")
        ids.update(values)
    return frozenset(ids)


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
        tokenizer: ChatTokenizer | CheckpointError,
        *,
        name: str,
        stop_token_ids: frozenset[int],
        default_sampling: SamplingParams,
        context: int,
    ) -> None:
        self.model = model
        self._tokenizer = tokenizer
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
        if isinstance(self._tokenizer, CheckpointError):
            raise self._tokenizer
        return self._tokenizer

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are held in."""
        return self.model.embed_tokens.weight.dtype

    def chat(self, messages: Messages, tools: Tools = None, **sampling: Any) -> Reply:
        """The model's reply to a conversation.

        Args:
            messages: dictionaries in OpenAI's form or the original's, or `Message` objects.
            tools: what the model may ask to have called.
            **sampling: any of `SamplingParams`, over the checkpoint's defaults.

        Raises:
            InputError: messages, tools or parameters that cannot be used; PromptTooLong: no room left for a reply.

        Warns:
            UserWarning: the checkpoint is a base model, not trained to chat.
        """
        params = self.default_sampling.updated(sampling)
        prompt, known_tools = self._chat_prompt(messages, tools)
        replies = []
        for one in _single(params):
            deltas = list(self._chat_deltas(prompt, known_tools, one))
            last = deltas[-1]
            assert last.finish_reason is not None
            assert last.usage is not None
            logprobs = tuple(entry for delta in deltas for entry in delta.logprobs)
            replies.append(
                Reply(
                    content="".join(delta.text for delta in deltas),
                    tool_calls=tuple(call for delta in deltas for call in delta.tool_calls),
                    finish_reason=last.finish_reason,
                    usage=last.usage,
                    token_ids=tuple(i for delta in deltas for i in delta.token_ids),
                    logprobs=None if params.logprobs is None else logprobs,
                )
            )
        return replace(replies[0], other_choices=tuple(replies[1:]))

    def stream(self, messages: Messages, tools: Tools = None, **sampling: Any) -> Iterator[Delta]:
        """As `chat`, piece by piece: the pieces' texts and calls joined are the whole reply's.

        Arguments are checked at once, not at the first piece. Closing the iterator ends the work.
        """
        params = self.default_sampling.updated(sampling)
        if params.n != 1:
            raise InputError(f"stream gives one reply, n is {params.n}; call chat, or stream n times")
        return self._chat_deltas(*self._chat_prompt(messages, tools), params)

    @overload
    def generate(self, prompt: Prompt, **sampling: Any) -> Completion: ...
    @overload
    def generate(self, prompt: Sequence[Prompt], **sampling: Any) -> list[Completion]: ...
    def generate(self, prompt: Prompt | Sequence[Prompt], **sampling: Any) -> Completion | list[Completion]:
        """What follows a prompt, without any chat format.

        Args:
            prompt: text (encoded with the `[gMASK]<sop>` prefix), token ids as they are, or a list of such prompts.
            **sampling: any of `SamplingParams`, over the checkpoint's defaults.

        Returns:
            A `Completion`; a list of them, in order, for a list of prompts.

        Raises:
            InputError: an empty prompt, an id out of range, a parameter that cannot be used.
            PromptTooLong: no room left in the context. All prompts are checked before the first is computed.
        """
        params = self.default_sampling.updated(sampling)
        values: Any = prompt.tolist() if hasattr(prompt, "tolist") else prompt
        if isinstance(values, str) or (isinstance(values, Sequence) and values and isinstance(values[0], int)):
            return self._complete(self._prompt_ids(values), params)
        if not isinstance(values, Sequence) or not values:
            raise InputError(f"the prompt is {prompt!r}; pass text, token ids, or a list of either")
        return [self._complete(ids, params) for ids in [self._prompt_ids(value) for value in values]]

    @torch.inference_mode()
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
            raise PromptTooLong(f"{tokens.shape[1]} tokens are given, the context is {self.context}")
        valid = None
        if attention_mask is not None:
            valid = self._integers("attention_mask", attention_mask, upper=2, like=tokens).bool()
        if position_ids is not None:
            positions = self._integers("position_ids", position_ids, upper=self.model.config.max_positions, like=tokens)
        elif valid is not None:
            positions = (valid.cumsum(1) - 1).clamp(min=0)
        else:
            positions = torch.arange(tokens.shape[1], device=self.device).expand_as(tokens)
        hidden = self.model(self.model.embed(tokens), positions, valid=None if valid is None or valid.all() else valid)
        return self.model.logits(hidden)

    def _integers(self, name: str, values: Any, *, upper: int, like: Tensor | None = None) -> Tensor:
        try:
            tensor = torch.as_tensor(values)
        except (ValueError, TypeError, RuntimeError) as error:
            raise InputError(f"{name} is not a rectangle of integers: {error}") from error
        tensor = tensor[None] if tensor.ndim == 1 else tensor
        if tensor.ndim != 2 or not tensor.numel() or tensor.is_floating_point():
            raise InputError(f"{name} must be integers [B, T], not {tensor.dtype} of shape {list(tensor.shape)}")
        if like is not None and tensor.shape != like.shape:
            raise InputError(f"{name} has shape {list(tensor.shape)}, the ids have {list(like.shape)}")
        low, high = int(tensor.min()), int(tensor.max())
        if low < 0 or high >= upper:
            raise InputError(f"{name} holds {low if low < 0 else high}; it must be from 0 to {upper - 1}")
        return tensor.long().to(self.device)

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

    def _prompt_ids(self, prompt: Prompt) -> list[int]:
        if isinstance(prompt, str):
            if not prompt:
                raise InputError("the prompt is empty; pass some text")
            ids = self.tokenizer.encode(prompt)
        elif isinstance(prompt, Iterable):
            ids = list(prompt)
        else:
            raise InputError(f"the prompt is {prompt!r}; pass text or token ids")
        self._check_prompt(ids)
        return ids

    def _check_prompt(self, ids: Sequence[int]) -> None:
        if not ids:
            raise InputError("the prompt is empty; pass at least one token id")
        vocab_size = self.model.config.vocab_size
        for i in ids:
            if not isinstance(i, int) or isinstance(i, bool) or not 0 <= i < vocab_size:
                raise InputError(f"the prompt holds {i!r}; token ids of {self.name} are from 0 to {vocab_size - 1}")
        if len(ids) >= self.context:
            raise PromptTooLong(
                f"the prompt has {len(ids)} tokens, and the context of {self.name} is {self.context}, reply included; "
                "shorten it, or load with a larger max_context if the checkpoint allows"
            )

    def _steps(self, prompt: list[int], params: SamplingParams) -> Iterator[Step]:
        return generate(self.model, prompt, params, self.stop_token_ids, self.context)

    def _complete(self, prompt: list[int], params: SamplingParams) -> Completion:
        done = [self._complete_one(prompt, one) for one in _single(params)]
        return replace(done[0], other_choices=tuple(done[1:]))

    def _complete_one(self, prompt: list[int], params: SamplingParams) -> Completion:
        if params.stop:
            self.tokenizer  # noqa: B018 (raises where there is none to match the stop strings with)
        tokenizer = self._tokenizer
        text = None if isinstance(tokenizer, CheckpointError) else Detokenizer(tokenizer.tokenizer, stop=params.stop)
        pieces, ids, logprobs = [], [], []
        reason: FinishReason = "length"
        for step in self._steps(prompt, params):
            ids.append(step.token_id)
            if step.logprob is not None:
                logprobs.append(step.logprob)
            if text is not None:
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
            logprobs=None if params.logprobs is None else tuple(logprobs),
            decoded=tokenizer if isinstance(tokenizer, CheckpointError) else "".join(pieces),
        )

    def _chat_deltas(self, prompt: list[int], tools: tuple[Tool, ...], params: SamplingParams) -> Iterator[Delta]:
        """The one loop from new ids to pieces of a reply: ids -> characters -> text and calls."""
        text = Detokenizer(self.tokenizer.tokenizer, stop=params.stop)
        turn_id = self.tokenizer.special_tokens["<|assistant|>"]
        reply = _Reply(self.tokenizer.format.reply_parser(tools))
        for count, step in enumerate(self._steps(prompt, params), start=1):
            if step.token_id == turn_id:  # it begins another turn of its own: what is withheld belongs to this one
                events = reply.parser.push(text.finish()) + reply.parser.new_segment()
                text = Detokenizer(self.tokenizer.tokenizer, stop=params.stop)
            else:
                events = reply.parser.push(text.push(step.token_id))
            reason: FinishReason | None = "stop" if text.stopped is not None else step.finish_reason
            if reason is not None:
                events += reply.parser.push(text.finish()) + reply.parser.finish()
            piece, calls = reply.take(events)
            if reason == "stop" and reply.called:
                reason = "tool_calls"
            yield Delta(
                text=piece,
                tool_calls=calls,
                token_ids=(step.token_id,),
                logprobs=() if step.logprob is None else (step.logprob,),
                finish_reason=reason,
                usage=None if reason is None else Usage(len(prompt), count),
            )
            if reason is not None:
                return


class _Reply:
    """Turns a parser's events into text and whole calls."""

    def __init__(self, parser: ReplyParser) -> None:
        self.parser = parser
        self.called = False
        self._name, self._arguments = "", ""

    def take(self, events: Iterable[ReplyEvent]) -> tuple[str, tuple[ToolCall, ...]]:
        """The text that the events add, and the calls that they complete."""
        text, calls = "", []
        for event in events:
            if isinstance(event, TextDelta):
                text += event.text
            elif isinstance(event, CallStart):
                self._name, self._arguments = event.name, ""
            elif isinstance(event, CallArguments):
                self._arguments += event.text
            elif isinstance(event, CallEnd):
                calls.append(ToolCall(self._name, self._arguments, id=f"call_{uuid.uuid4().hex}"))
                self.called = True
        return text, tuple(calls)


def _single(params: SamplingParams) -> list[SamplingParams]:
    """n requests for one reply each; where a seed is given, reply i gets seed + i."""
    seeds = [None if params.seed is None else params.seed + i for i in range(params.n)]
    return [replace(params, n=1, seed=seed) for seed in seeds]


__all__ = ["LLM", "TokenLogprob", "load_model"]
