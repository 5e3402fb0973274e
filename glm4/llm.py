"""LLM: a loaded checkpoint. Tokenizer, chat format and engine behind one object."""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, overload

import torch
from torch import Tensor

from .chat import ChatTokenizer, Piece, ReplyAssembler
from .engine.generate import Step, generate
from .errors import CheckpointError, InputError, PromptTooLong
from .inputs import Prompt, integer_rows, is_one_prompt, padded_side, plain, token_ids
from .memory import memory_errors_explained
from .messages import MessageLike, Tool, ToolLike, as_messages, declared_tools
from .models.batch import pad_prompts
from .models.language_model import input_device
from .outputs import Completion, Delta, FinishReason, Reply, Usage
from .placement import Placement, placement_of
from .sampling import SamplingParams
from .tokenizers import Detokenizer
from .vision import PictureEncoder

Messages = Iterable[MessageLike]
Tools = Iterable[ToolLike] | None
PromptLike = str | Sequence[int]


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
        model: Any,
        tokenizer: ChatTokenizer | None,
        *,
        name: str,
        stop_token_ids: frozenset[int],
        default_sampling: SamplingParams,
        context: int,
        why_no_tokenizer: str = "the checkpoint came without a tokenizer",
    ) -> None:
        self.model: Any = model
        self._pictures = PictureEncoder(model, name)
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
        """Where ids go in and logits come out; the weights are there, too, unless they are spread."""
        return input_device(self.model)

    @property
    def placement(self) -> Placement:
        """Which part of the model lies where, and how large it is. Printed, it is a table."""
        return placement_of(self.model)

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are held in."""
        dtype: torch.dtype = self.model.embed_tokens.weight.dtype
        return dtype

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
        self, prompt: PromptLike, sampling_params: SamplingParams | None = None, *, images: Any = None, **sampling: Any
    ) -> Completion: ...
    @overload
    def generate(
        self,
        prompt: Sequence[PromptLike],
        sampling_params: SamplingParams | None = None,
        *,
        images: Any = None,
        **sampling: Any,
    ) -> list[Completion]: ...
    def generate(
        self,
        prompt: PromptLike | Sequence[PromptLike],
        sampling_params: SamplingParams | None = None,
        *,
        images: Any = None,
        **sampling: Any,
    ) -> Completion | list[Completion]:
        """What follows a prompt, without any chat format.

        Args:
            prompt: text (encoded with the family's prefix, such as `[gMASK]<sop>`), token ids as they are, or a list
                of such prompts.
            sampling_params: in place of the checkpoint's defaults.
            images: the pictures for the places that the prompts hold, in order: one flat list, whatever the number of
                prompts, of PIL images, paths or bytes, or an already normalised float tensor [N, 3, S, S].
            **sampling: any of `SamplingParams`' fields, on top of either.

        Returns:
            A `Completion`; a list of them, in order, for a list of prompts.

        Raises:
            InputError: an empty prompt, an id out of range, a parameter that cannot be used, more or fewer pictures
                than places.
            PromptTooLong: no room left in the context. All prompts are checked before the first is computed.
        """
        params = self._params(sampling_params, sampling)
        values = plain(prompt)
        one = is_one_prompt(values)
        if not one and (not isinstance(values, Sequence) or not values):
            raise InputError(f"the prompt is {prompt!r}; pass text, token ids, or a list of either")
        rows = [self._prompt_ids(value) for value in ([values] if one else values)]
        prompts = self._prompts(rows, images)
        done = [self._complete(known, params) for known in prompts]
        return done[0] if one else done

    @torch.no_grad()
    def logits(
        self,
        ids: Sequence[Sequence[int]] | Sequence[int] | Tensor,
        position_ids: Sequence[Sequence[int]] | Tensor | None = None,
        attention_mask: Sequence[Sequence[int]] | Tensor | None = None,
        images: Any = None,
    ) -> Tensor:
        """Next-token logits at every position, in one forward pass.

        Args:
            ids: [B, T], or [T] for a batch of one.
            position_ids: [B, T]; by default 0, 1, ... over the tokens that are not padding, and 0 for padding. Not
                where the family counts in two rows (ChatGLM-6B), nor beside pictures.
            attention_mask: [B, T], 1 for tokens and 0 for padding; None where nothing is padded.
            images: the pictures for the places in all rows, in order; see `generate`.

        Returns:
            float32 [B, T, V], on the model's device. Rows of padding tokens mean nothing. Where pictures take more
            slots than ids, T grows to the widest row's slots, and shorter rows are padded on the side on which
            `attention_mask` pads, which must be one for all rows, else on the right.

        Raises:
            InputError: shapes that do not agree, an id, position or mask value out of range, or more or fewer pictures
                than places.
        """
        tokens = integer_rows("ids", ids, upper=self.model.config.vocab_size).to(self.device)
        valid = torch.ones_like(tokens, dtype=torch.bool)
        if attention_mask is not None:
            valid = integer_rows("attention_mask", attention_mask, upper=2, like=tokens).bool().to(self.device)
        rows = [row[kept] for row, kept in zip(tokens, valid, strict=True)]
        prompts = self._prompts([row.tolist() for row in rows], images, reply=0)
        widest = max(tokens.shape[1], *(prompt.n_slots for prompt in prompts))
        shown = f"[{tokens.shape[0]}, {widest}, {self.model.config.vocab_size}]"
        with memory_errors_explained(f"float32 logits {shown}", "Pass fewer tokens at a time"):
            if any(prompt.pixels is not None for prompt in prompts):
                if position_ids is not None:
                    raise InputError("position_ids cannot be given beside pictures, which have positions of their own")
                return self._logits_of_pictures(rows, prompts, padded_side(valid))
            positions = self._positions(tokens, valid, position_ids)
            padded = None if valid.all() else valid
            return self._final_logits(self._embedded(tokens, rows, padded), positions, padded)

    def _embedded(self, tokens: Tensor, rows: list[Tensor], valid: Tensor | None) -> Tensor:
        """A batch without pictures. Ids on padding are never looked at: they may be any, a picture's among them."""
        if valid is None:
            hidden: Tensor = self.model.embed(tokens)
            return hidden
        each = torch.cat([self.model.embed(row[None])[0] for row in rows])
        hidden = each.new_zeros(*valid.shape, each.shape[-1])
        hidden[valid] = each
        return hidden

    def _positions(self, tokens: Tensor, valid: Tensor, given: Any) -> Tensor:
        """Positions of a batch without pictures, [B, T] or [B, 2, T]; 0 on padding."""
        each = [self.model.positions(row[kept]) for row, kept in zip(tokens, valid, strict=True)]
        if given is not None:
            if each[0].ndim != 1:
                raise InputError("position_ids cannot be given: this family counts in two rows, derived from the ids")
            upper = self.model.config.max_positions
            return integer_rows("position_ids", given, upper=upper, like=tokens).to(self.device)
        positions = torch.zeros(tokens.shape[0], *each[0].shape[:-1], tokens.shape[1], dtype=torch.long)
        positions = positions.to(self.device)
        for row, kept, counted in zip(positions, valid, each, strict=True):
            row[..., kept] = counted
        return positions

    def _logits_of_pictures(self, rows: list[Tensor], prompts: list[Prompt], side: Literal["left", "right"]) -> Tensor:
        embedded = []
        for row, prompt in zip(rows, prompts, strict=True):
            features = self._pictures.features(prompt.pixels)
            embedded.append((self.model.embed(row[None], features)[0], self.model.positions(row)))
        return self._final_logits(*pad_prompts(embedded, side))

    def _final_logits(self, hidden: Tensor, positions: Tensor, valid: Tensor | None) -> Tensor:
        logits: Tensor = self.model.logits(self.model(hidden, positions, valid=valid))
        return logits

    def _chat_prompt(self, messages: Messages, tools: Tools) -> tuple[Prompt, tuple[Tool, ...]]:
        """The conversation as a prompt, and every tool it declares."""
        if self.tokenizer.format.is_base:
            warnings.warn(
                f"{self.name} is a base model: it continues text and was not trained to chat. Load a -chat checkpoint, "
                "or use generate()",
                stacklevel=3,
            )
        known = as_messages(messages, tools)
        pictures = [picture for message in known for picture in message.pictures]
        ids = token_ids(self.tokenizer.render(known), self.model.config.vocab_size)
        (prompt,) = self._prompts([ids], pictures, where="the messages' pictures")
        return prompt, declared_tools(known)

    def _params(self, sampling_params: SamplingParams | None, changes: dict[str, Any]) -> SamplingParams:
        if sampling_params is not None and not isinstance(sampling_params, SamplingParams):
            raise InputError(f"sampling_params is {sampling_params!r}; pass a SamplingParams, or its fields by name")
        return (sampling_params or self.default_sampling).updated(changes)

    def _prompt_ids(self, prompt: Any) -> list[int]:
        prompt = plain(prompt)
        if isinstance(prompt, str):
            if not prompt:
                raise InputError("the prompt is empty; pass some text")
            prompt = self.tokenizer.encode(prompt)
        return token_ids(prompt, self.model.config.vocab_size)

    def _prompts(self, rows: list[list[int]], images: Any, reply: int = 1, where: str = "images") -> list[Prompt]:
        """Rows of ids with the pictures for their places, checked to leave room for a reply of so many tokens."""
        needed = []  # (slots, places for pictures) of each row: no picture is opened before they are known to fit
        for row in rows:
            ids = torch.tensor(row, dtype=torch.long)
            try:
                places, n_slots = self.model.n_pictures(ids), self.model.positions(ids).shape[-1]
            except ValueError as error:
                raise InputError(f"the prompt cannot be used: {error}") from error
            self._check_room(len(row), n_slots, reply)
            needed.append((n_slots, places))
        pixels = self._pictures.pixels(images, sum(places for _, places in needed), where)
        prompts, taken = [], 0
        for row, (n_slots, places) in zip(rows, needed, strict=True):
            here = pixels[taken : taken + places] if pixels is not None and places else None
            prompts.append(Prompt(row, n_slots, here))
            taken += places
        return prompts

    def _check_room(self, n_ids: int, n_slots: int, reply: int) -> None:
        if n_slots + reply <= self.context:
            return
        trained = self.model.config.max_positions
        larger = f", or load with a max_context up to {trained}" if self.context < trained else ""
        pictures = f" ({n_slots - n_ids} of them for pictures)" if n_slots > n_ids else ""
        raise PromptTooLong(
            f"the prompt has {n_slots} tokens{pictures}, and the context of {self.name} is {self.context}, reply "
            f"included; shorten it{larger}"
        )

    def _steps(self, prompt: Prompt, params: SamplingParams) -> Iterator[Step]:
        doing = f"a prompt of {prompt.n_slots} tokens and its reply"
        with memory_errors_explained(doing, "Pass max_tokens=, or load with a smaller max_context="):
            features = self._pictures.features(prompt.pixels)
            yield from generate(self.model, prompt.ids, params, self.stop_token_ids, self.context, features)

    def _complete(self, prompt: Prompt, params: SamplingParams) -> Completion:
        done = [self._complete_one(prompt, one) for one in params.singles()]
        return replace(done[0], other_choices=tuple(done[1:]))

    def _complete_one(self, prompt: Prompt, params: SamplingParams) -> Completion:
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
            usage=Usage(prompt.n_slots, len(ids)),
            logprobs=None if params.logprobs is None else logprobs,
            decoded=None if text is None else "".join(pieces),
            why_not_decoded=self._why_no_tokenizer,
        )

    def _chat_deltas(self, prompt: Prompt, tools: tuple[Tool, ...], params: SamplingParams) -> Iterator[Delta]:
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
                usage=None if reason is None else Usage(prompt.n_slots, count),
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
