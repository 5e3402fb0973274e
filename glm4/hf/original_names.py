"""The decoder and the tower with their parts under the names that they have in the original checkpoints.

transformers, PEFT, accelerate and bitsandbytes go by the names of modules: those are the names of the tensors on disk,
what a LoRA configuration targets (`query_key_value`), and the keys of a device map. So the model is built as it is
everywhere, and its parts are then moved to the original's names; its forward pass finds them by properties. Where the
original is cut up differently, a module of its own stands in.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.cache import LayerCache
from ..models.eva_clip import ADAPTER_NORM_EPS, EVACLIP, EVAConfig
from ..models.eva_clip import Attention as TowerAttention
from ..models.eva_clip import Block as TowerBlock
from ..models.glm import GLM, Attention, Block, GLMConfig
from ..models.glm4v import GLM4V, GLM4VConfig
from ..models.ops import SwiGLU
from .configuration_chatglm import ChatGLMConfig


class _Alias(property):
    """A part of a module, found under the name its forward pass uses and kept under the original's."""

    def __init__(self, path: str) -> None:
        super().__init__(attrgetter(path))
        self.path = path


def _alias(path: str) -> Any:
    return _Alias(path)


class _Checkpointed(nn.Module):
    """A block that transformers' gradient checkpointing computes again on the way back, where it is switched on."""

    gradient_checkpointing = False
    _gradient_checkpointing_func: Any = None

    def _maybe_again(self, forward: Any, *args: Any) -> Tensor:
        if self.gradient_checkpointing and self.training:
            out: Tensor = self._gradient_checkpointing_func(forward, *args)
            return out
        result: Tensor = forward(*args)
        return result


class SelfAttention(Attention):
    """`glm.Attention` in the original's names."""

    qkv_proj = _alias("query_key_value")
    o_proj = _alias("dense")


class MLP(SwiGLU):
    """`ops.SwiGLU` in the original's names."""

    gate_up_proj = _alias("dense_h_to_4h")
    down_proj = _alias("dense_4h_to_h")


class GLMBlock(Block, _Checkpointed):
    """`glm.Block` in the original's names."""

    self_attn = _alias("self_attention")

    def forward(
        self, x: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor | None, cache: LayerCache | None
    ) -> Tensor:
        """[B, T, H] -> [B, T, H]."""
        return self._maybe_again(super().forward, x, rotary, mask, cache)


class ChatGLMModel(GLM):
    """`glm.GLM` in the original's names."""

    embed_tokens = _alias("embedding.word_embeddings")
    layers = _alias("encoder.layers")
    norm = _alias("encoder.final_layernorm")
    lm_head = _alias("output_layer")


class ChatGLM4VModel(GLM4V):
    """`glm4v.GLM4V` in the original's names."""

    embed_tokens = _alias("embedding.word_embeddings")
    layers = _alias("encoder.layers")
    norm = _alias("encoder.final_layernorm")
    lm_head = _alias("output_layer")


class VisionAttention(TowerAttention):
    """`eva_clip.Attention` in the original's names."""

    qkv_proj = _alias("query_key_value")
    o_proj = _alias("dense")


class TransformerLayer(TowerBlock, _Checkpointed):
    """`eva_clip.Block` in the original's names."""

    attention_norm = _alias("input_layernorm")
    mlp_norm = _alias("post_attention_layernorm")

    def forward(self, x: Tensor) -> Tensor:
        """[N, T, H] -> [N, T, H]."""
        return self._maybe_again(super().forward, x)


class EVA2CLIPModel(EVACLIP):
    """`eva_clip.EVACLIP` in the original's names."""

    layers = _alias("transformer.layers")
    adapter = _alias("linear_proj")


class PatchEmbedding(nn.Module):
    """`eva_clip.PatchEmbedding` with the positions in a module of their own, as the original has them."""

    def __init__(self, config: EVAConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.hidden_size, kernel_size=config.patch_size, stride=config.patch_size)
        self.cls_embedding = nn.Parameter(torch.empty(1, config.hidden_size))
        self.position_embedding = nn.Embedding(config.grid**2 + 1, config.hidden_size)

    def forward(self, pixels: Tensor) -> Tensor:
        """[N, 3, S, S] -> [N, 1 + grid * grid, H]."""
        patches = self.proj(pixels).flatten(2).transpose(1, 2)
        cls = self.cls_embedding.expand(patches.shape[0], -1, -1)
        x = torch.cat((cls, patches), dim=1)
        out: Tensor = x + self.position_embedding(torch.arange(x.shape[1], device=x.device))
        return out


class GLU(nn.Module):
    """`eva_clip.Adapter` with gate and up apart, as the original has them."""

    def __init__(self, config: EVAConfig) -> None:
        super().__init__()
        self.linear_proj = nn.Linear(config.out_size, config.out_size, bias=False)
        self.norm1 = nn.LayerNorm(config.out_size, ADAPTER_NORM_EPS)
        self.gate_proj = nn.Linear(config.out_size, config.out_ffn_size, bias=False)
        self.dense_h_to_4h = nn.Linear(config.out_size, config.out_ffn_size, bias=False)
        self.dense_4h_to_h = nn.Linear(config.out_ffn_size, config.out_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, P, H] -> [N, P, H]."""
        x = F.gelu(self.norm1(self.linear_proj(x)))
        out: Tensor = self.dense_4h_to_h(F.silu(self.gate_proj(x)) * self.dense_h_to_4h(x))
        return out


_IN_ORIGINAL_NAMES: dict[type[nn.Module], type[nn.Module]] = {
    Attention: SelfAttention,
    SwiGLU: MLP,
    Block: GLMBlock,
    GLM: ChatGLMModel,
    GLM4V: ChatGLM4VModel,
    TowerAttention: VisionAttention,
    TowerBlock: TransformerLayer,
    EVACLIP: EVA2CLIPModel,
}


def decoder_config(config: ChatGLMConfig) -> GLMConfig:
    """The facts of the forward pass from config.json's keys.

    Raises:
        ValueError: one is missing, or says what is not implemented.
    """
    config.check()
    n_heads, head_dim = config.fact("num_attention_heads"), config.fact("kv_channels")
    facts: dict[str, Any] = {
        "vocab_size": config.fact("padded_vocab_size"),
        "hidden_size": config.fact("hidden_size"),
        "ffn_size": config.fact("ffn_hidden_size"),
        "n_layers": config.fact("num_layers"),
        "n_heads": n_heads,
        "n_kv_heads": config.fact("multi_query_group_num") if config.fact("multi_query_attention") else n_heads,
        "head_dim": head_dim,
        "rotary_dim": head_dim // 2,
        "rope_theta": 10000.0 * config.fact("rope_ratio", default=1.0),  # GLM-4-9B's file has no rope_ratio
        "norm_eps": config.fact("layernorm_epsilon"),
        "qkv_bias": config.fact("add_qkv_bias"),
        "sandwich_norms": False,
        "max_positions": config.fact("seq_length"),
    }
    tower = getattr(config, "vision_config", None)
    if tower is None:
        return GLMConfig(**facts)
    vision = EVAConfig(
        image_size=tower["image_size"],
        patch_size=tower["patch_size"],
        hidden_size=tower["hidden_size"],
        ffn_size=tower["intermediate_size"],
        n_layers=tower["num_hidden_layers"],
        n_heads=tower["num_heads"],
        norm_eps=tower["layer_norm_eps"],
        scaling_factor=tower["scaling_factor"],
        out_size=facts["hidden_size"],
        out_ffn_size=facts["ffn_size"],
    )
    return GLM4VConfig(
        **facts, vision=vision, boi_token_id=config.fact("boi_token_id"), eoi_token_id=config.fact("eoi_token_id")
    )


def build_model(config: ChatGLMConfig) -> ChatGLMModel | ChatGLM4VModel:
    """A model with random weights, its parts under the original's names. Raises ValueError as `decoder_config`."""
    facts = decoder_config(config)
    model: Any = GLM4V(facts) if isinstance(facts, GLM4VConfig) else GLM(facts)
    if isinstance(facts, GLM4VConfig):
        model.vision.patch_embedding = PatchEmbedding(facts.vision)
        model.vision.adapter = GLU(facts.vision)
    for module in list(model.modules()):
        renamed = _IN_ORIGINAL_NAMES.get(type(module))
        if renamed is not None:
            _rename(module, renamed)
    built: ChatGLMModel | ChatGLM4VModel = model
    return built


def _rename(module: nn.Module, renamed: type[nn.Module]) -> None:
    """Make `module` one of `renamed`, which is its class with aliases, and move its children to where these point."""
    paths = {name: alias.path for name, alias in vars(renamed).items() if isinstance(alias, _Alias)}
    children = dict(module.named_children())
    module._modules.clear()
    module.__class__ = renamed
    for name, child in children.items():
        *parents, last = paths.get(name, name).split(".")
        owner = module
        for parent in parents:
            if parent not in owner._modules:
                owner.add_module(parent, nn.Module())
            owner = owner.get_submodule(parent)
        owner.add_module(last, child)
