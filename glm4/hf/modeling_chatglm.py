"""GLM-4 and GLM-4V for transformers: this library's forward pass behind the interface of `PreTrainedModel`.

The class names, the modules' names and the arguments are the original's, so that checkpoints, LoRA adapters and scripts
made for it go on working. Written for transformers 4.46 to 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import CausalLMOutputWithPast, SequenceClassifierOutputWithPast

from ..models.batch import pad_prompts
from .borrowed_cache import BorrowedCache, cache_of_pairs
from .configuration_chatglm import ChatGLMConfig
from .original_names import build_model

IGNORED_LABEL = -100

# In an exported folder, whose files are to come along when a model is saved: 4.46 does that for classes with this name.
_EXPORTED = not __name__.startswith("glm4.")


@dataclass
class ChatGLMOutput(CausalLMOutputWithPast):  # type: ignore[misc]
    """With pictures the sequence has more slots than the prompt has ids; then it also says what they hold."""

    attention_mask: Tensor | None = None
    """[B, slots], 1 where a slot holds a token or a piece of a picture."""
    position_ids: Tensor | None = None
    """[B, slots]."""


class ChatGLMPreTrainedModel(PreTrainedModel):  # type: ignore[misc]
    """What transformers asks of a model's class."""

    config_class = ChatGLMConfig
    base_model_prefix = "transformer"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _no_split_modules = ["GLMBlock", "EVA2CLIPModel"]  # noqa: RUF012 (transformers' own form)
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _keys_to_ignore_on_load_unexpected = [r"rotary_pos_emb\.inv_freq"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_cache_class = True
    _supports_quantized_cache = True
    _supports_static_cache = True

    def _init_weights(self, module: nn.Module) -> None:
        # By torch.nn.init, which transformers 5 keeps from touching weights that were loaded.
        for name, parameter in module.named_parameters(recurse=False):
            if name == "bias":
                nn.init.zeros_(parameter)
            elif "Norm" in type(module).__name__:
                nn.init.ones_(parameter)
            else:
                nn.init.normal_(parameter, std=getattr(self.config, "initializer_range", 0.02))

    def get_input_embeddings(self) -> nn.Module:
        """The table of token embeddings."""
        table: nn.Module = self.transformer.embed_tokens
        return table

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace it."""
        self.transformer.embedding.word_embeddings = value

    def _embedded(self, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        """Ids [B, T] or embedded tokens [B, T, H] -> [B, T, H]."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("pass input_ids or inputs_embeds, and not both")
        hidden: Tensor = self.transformer.embed(input_ids) if inputs_embeds is None else inputs_embeds
        return hidden

    def _hidden(
        self,
        hidden: Tensor,
        position_ids: Tensor | None,
        attention_mask: Tensor | None,
        past_key_values: Any,
        output_hidden_states: bool,
    ) -> tuple[Tensor, tuple[Tensor, ...] | None]:
        """Embedded tokens [B, T, H] -> final hidden states, and every layer's where asked for."""
        cache = None if past_key_values is None else BorrowedCache(past_key_values)
        n_seen, n_new = cache.length if cache is not None else 0, hidden.shape[1]
        valid = None
        if attention_mask is not None:
            if tuple(attention_mask.shape) != (hidden.shape[0], n_seen + n_new):
                raise ValueError(
                    f"attention_mask has shape {list(attention_mask.shape)}; for {n_new} new slots behind {n_seen} in "
                    f"the cache it must be {[hidden.shape[0], n_seen + n_new]}, 1 on tokens and 0 on padding"
                )
            attention_mask = attention_mask.to(hidden.device)
            valid = None if bool(attention_mask.all()) else attention_mask.bool()
        if position_ids is None:
            if attention_mask is None:
                position_ids = torch.arange(n_seen, n_seen + n_new, device=hidden.device)[None]
            else:
                position_ids = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, n_seen:]
        states = [hidden]
        hooks = [
            layer.register_forward_hook(lambda _module, _args, out: states.append(out))
            for layer in self.transformer.layers
            if output_hidden_states
        ]
        try:
            hidden = self.transformer(hidden, position_ids, cache, valid)
        finally:
            for hook in hooks:
                hook.remove()
        # As transformers has it, the last layer's are given normalised.
        return hidden, (*states[:-1], hidden) if output_hidden_states else None


class ChatGLMForConditionalGeneration(ChatGLMPreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """The language model, with a tower before it where config.json has a `vision_config`."""

    _auto_class = "AutoModelForCausalLM" if _EXPORTED else None

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__(config)
        self.transformer: Any = build_model(config)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        """The head."""
        head: nn.Module = self.transformer.lm_head
        return head

    def set_output_embeddings(self, value: nn.Module) -> None:
        """Replace it."""
        self.transformer.output_layer = value

    def forward(
        self,
        input_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        images: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        n_prompt: int | None = None,
        num_items_in_batch: Tensor | int | None = None,
        num_logits_to_keep: int = 0,
        **_: Any,
    ) -> ChatGLMOutput | tuple[Any, ...]:
        """Ids, or embedded tokens, to logits, and to the loss where there are labels.

        Args:
            input_ids: [B, T], or only those behind the cache.
            position_ids: [B, T]; where absent, what stands before a token without being padding is counted. Pictures
                number their patches themselves, and then they are not looked at.
            attention_mask: [B, everything so far], 0 on padding.
            labels: [B, T], -100 where nothing is to be learnt; shifted here.
            images: normalised pictures [N, 3, S, S] of the places in input_ids, row by row. Rows may hold any number.
            logits_to_keep: how many of the last slots to compute logits of, or which; 0 for all. In 4.46 it is called
                num_logits_to_keep.
            n_prompt: with images, the first so many ids are the prompt, and only there places for pictures are looked
                for; what the model wrote behind it is text.
            num_items_in_batch: what the loss is divided by, where it is not the number of labels.

        Returns:
            logits float32 [B, slots, V]. With pictures there are more slots than ids (`attention_mask` and
            `position_ids` of the output say which), padded on the left.

        Raises:
            ValueError: pictures and their places do not match; a mask of another length; attention probabilities asked
                for, which are never formed.
        """
        if output_attentions:
            raise ValueError("output_attentions=True: attention is fused, its probabilities are never formed")
        if use_cache is None:
            use_cache = getattr(self.config, "use_cache", True) and labels is None
        past_key_values = self._cache_to_use(past_key_values, use_cache)
        seen = None
        if images is not None:
            hidden, position_ids, attention_mask, labels = self._spliced(
                input_ids, attention_mask, labels, images, n_prompt
            )
            seen = {"attention_mask": attention_mask, "position_ids": position_ids}
            n_cached = 0 if past_key_values is None else int(past_key_values.get_seq_length())
            hidden, position_ids = hidden[:, n_cached:], position_ids[:, n_cached:]
        else:
            hidden = self._embedded(input_ids, inputs_embeds)
        if output_hidden_states is None:
            output_hidden_states = getattr(self.config, "output_hidden_states", False)
        hidden, states = self._hidden(hidden, position_ids, attention_mask, past_key_values, output_hidden_states)
        last = num_logits_to_keep or logits_to_keep
        kept = last if isinstance(last, Tensor) else slice(-last, None) if last else slice(None)
        logits = self.transformer.logits(hidden[:, kept])
        loss = None if labels is None else _loss(logits, labels, num_items_in_batch)
        output = ChatGLMOutput(
            loss=loss, logits=logits, past_key_values=past_key_values if use_cache else None, hidden_states=states
        )
        if seen is not None:
            output["attention_mask"], output["position_ids"] = seen["attention_mask"], seen["position_ids"]
        wants_dict = getattr(self.config, "return_dict", True) if return_dict is None else return_dict
        return output if wants_dict else output.to_tuple()

    def _cache_to_use(self, past_key_values: Any, use_cache: bool) -> Any:
        """The cache that was given, or a new one where there should be one. (`_cache` is transformers' own name.)"""
        if isinstance(past_key_values, (tuple, list)):
            return cache_of_pairs(past_key_values)
        # With checkpointing, what is computed again would be written again.
        again = self.training and any(layer.gradient_checkpointing for layer in self.transformer.layers)
        return DynamicCache() if past_key_values is None and use_cache and not again else past_key_values

    def _spliced(
        self, ids: Tensor | None, mask: Tensor | None, labels: Tensor | None, images: Tensor, n_prompt: int | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Rows with any number of pictures: hidden [B, slots, H], positions, mask and labels [B, slots].

        Each row is embedded without its padding, and padded again on the left.
        """
        model = self.transformer
        if ids is None:
            raise ValueError("images go with input_ids, which say where they stand")
        if model.pictures is None:
            raise ValueError("images are given, and the checkpoint has no vision tower")
        n_prompt = ids.shape[1] if n_prompt is None else n_prompt
        keep = self._kept(ids, mask)
        prompts = [row[:n_prompt][kept[:n_prompt]] for row, kept in zip(ids, keep, strict=True)]
        written = [row[n_prompt:][kept[n_prompt:]] for row, kept in zip(ids, keep, strict=True)]
        counts = [model.n_pictures(prompt) for prompt in prompts]
        if sum(counts) != images.shape[0]:
            raise ValueError(f"{images.shape[0]} images are given, input_ids has places for {sum(counts)}")
        features = model.see(images).split(counts)
        rows, row_labels = [], []
        for i, (prompt, tail) in enumerate(zip(prompts, written, strict=True)):
            embedded = model.embed(prompt[None], features[i] if counts[i] else None)[0]
            positions = model.positions(prompt, len(tail)).to(embedded.device)
            rows.append((torch.cat((embedded, model.embed_tokens(tail).to(embedded))), positions))
            if labels is not None:
                # A slot's position is the index of its id, so slots that share one are a picture's.
                widened = labels[i][keep[i]][positions.to(labels.device)]
                shared = positions[1:] == positions[:-1]
                patches = F.pad(shared, (1, 0)) | F.pad(shared, (0, 1))
                row_labels.append(widened.masked_fill(patches.to(labels.device), IGNORED_LABEL))
        hidden, position_ids, valid = pad_prompts(rows)
        slots = torch.ones_like(position_ids) if valid is None else valid.to(position_ids.dtype)
        if labels is not None:
            width = position_ids.shape[1]
            labels = torch.stack([F.pad(row, (width - len(row), 0), value=IGNORED_LABEL) for row in row_labels])
        return hidden, position_ids, slots, labels

    def _kept(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        """Bool [B, T], False on padding. A picture's placeholder is no padding, though it is the padding token: a mask
        that was guessed from the ids may say so."""
        config = self.transformer.config
        keep = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.to(ids.device).bool().clone()
        keep[:, 1:-1] |= (ids[:, :-2] == config.boi_token_id) & (ids[:, 2:] == config.eoi_token_id)
        return keep

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        past_key_values: Any = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        position_ids: Tensor | None = None,
        images: Tensor | None = None,
        n_prompt: int | None = None,
        use_cache: bool | None = True,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The arguments of the next `forward`: what the cache does not hold yet."""
        n_seen = 0 if past_key_values is None else int(past_key_values.get_seq_length())
        inputs: dict[str, Any] = {
            "past_key_values": past_key_values,
            "attention_mask": attention_mask,
            "use_cache": use_cache,
        }
        for key in ("logits_to_keep", "num_logits_to_keep", "output_hidden_states", "output_attentions"):
            if kwargs.get(key) is not None:
                inputs[key] = kwargs[key]
        if images is not None:  # the first step, or no cache: places are told by the whole prompt
            return inputs | {"input_ids": input_ids, "images": images, "n_prompt": n_prompt}
        if inputs_embeds is not None and n_seen < inputs_embeds.shape[1]:
            inputs["inputs_embeds"] = inputs_embeds[:, n_seen:]
            n_new = inputs_embeds.shape[1] - n_seen
        else:
            # Everything so far: 4.x always has the mask, 5.x the positions.
            known = next((x for x in (attention_mask, position_ids) if x is not None), input_ids)
            n_new = min(known.shape[1] - n_seen, input_ids.shape[1])
            if n_new < 1:
                n_new = input_ids.shape[1]  # only what is new was given
            inputs["input_ids"] = input_ids[:, input_ids.shape[1] - n_new :].contiguous()
        if position_ids is not None:
            # Given for the prompt; 4.x does not continue them.
            missing = n_seen + n_new - position_ids.shape[1]
            if missing > 0:
                more = torch.arange(1, missing + 1, device=position_ids.device) + position_ids[:, -1:]
                position_ids = torch.cat((position_ids, more), dim=1)
            inputs["position_ids"] = position_ids[:, -n_new:]
        return inputs

    def _update_model_kwargs_for_generation(
        self, outputs: Any, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        if model_kwargs.get("images") is not None and model_kwargs.get("use_cache", True):
            # The pictures are in the cache now, and its slots are no longer those of the ids.
            model_kwargs["images"] = None
            model_kwargs["attention_mask"] = outputs.attention_mask
            model_kwargs["position_ids"] = outputs.position_ids
        updated: dict[str, Any] = super()._update_model_kwargs_for_generation(outputs, model_kwargs, *args, **kwargs)
        return updated

    def _expand_inputs_for_generation(  # static in 4.x
        self,
        expand_size: int = 1,
        is_encoder_decoder: bool = False,
        input_ids: Tensor | None = None,
        **model_kwargs: Any,
    ) -> tuple[Tensor, dict[str, Any]]:
        images = model_kwargs.pop("images", None)
        if images is not None and input_ids is not None and expand_size > 1:
            keep = self._kept(input_ids, model_kwargs.get("attention_mask"))
            counts = [self.transformer.n_pictures(row[kept]) for row, kept in zip(input_ids, keep, strict=True)]
            per_row = images.split(counts)
            images = torch.cat([one for one in per_row for _ in range(expand_size)])
        expanded: tuple[Tensor, dict[str, Any]] = super()._expand_inputs_for_generation(
            expand_size=expand_size, is_encoder_decoder=is_encoder_decoder, input_ids=input_ids, **model_kwargs
        )
        if images is not None and input_ids is not None:
            expanded[1].update(images=images, n_prompt=input_ids.shape[1])
        return expanded


class ChatGLMForSequenceClassification(ChatGLMPreTrainedModel):
    """The decoder with a classifier on its last slot (padding goes on the left)."""

    _auto_class = "AutoModelForSequenceClassification" if _EXPORTED else None

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.transformer: Any = build_model(config)
        self.classifier_head = nn.Linear(config.hidden_size, config.num_labels, bias=True)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **_: Any,
    ) -> SequenceClassifierOutputWithPast | tuple[Any, ...]:
        """[B, T] -> logits [B, num_labels]; the loss is transformers' own for `config.problem_type`."""
        hidden = self._embedded(input_ids, inputs_embeds)
        hidden, states = self._hidden(hidden, position_ids, attention_mask, None, bool(output_hidden_states))
        logits = self.classifier_head(hidden[:, -1]).float()
        loss = None
        if labels is not None:
            kind = getattr(self.config, "problem_type", None)
            if kind == "regression" or (kind is None and self.num_labels == 1):
                loss = F.mse_loss(logits.squeeze(-1), labels.to(logits).view(logits.squeeze(-1).shape))
            elif kind == "multi_label_classification" or (kind is None and labels.is_floating_point()):
                loss = F.binary_cross_entropy_with_logits(logits, labels.to(logits))
            else:
                loss = F.cross_entropy(logits, labels.to(logits.device).view(-1))
        output = SequenceClassifierOutputWithPast(loss=loss, logits=logits, hidden_states=states)
        return output if return_dict is None or return_dict else output.to_tuple()


def _loss(logits: Tensor, labels: Tensor, n_items: Tensor | int | None) -> Tensor:
    """Mean cross entropy of each slot's logits [B, T, V] against the next slot's label; -100 is not counted."""
    targets = labels[:, 1:].to(logits.device)
    if n_items is None:
        return F.cross_entropy(logits[:, :-1].flatten(0, 1), targets.flatten(), ignore_index=IGNORED_LABEL)
    total = F.cross_entropy(
        logits[:, :-1].flatten(0, 1), targets.flatten(), ignore_index=IGNORED_LABEL, reduction="sum"
    )
    return total / (n_items.to(total.device) if isinstance(n_items, Tensor) else n_items)
