"""Train the seeing model from scratch. Resumable: run the same command again and it goes on where it stopped.

    torchrun --nproc-per-node 2 -m tools.seeing_model.train --out runs/seeing_model
    python -m tools.seeing_model.train --out runs/seeing_model --export glm4/assets/default-vision

One process a core, as in tools/default_model. At first the tower alone, on what each patch shows (targets.py):
sentences say the same, but thinly and at ten times the cost. Then tower and language model together, on what the
assistant says and, with a weight that falls, still on the patches.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from glm4.chat import ChatTokenizer
from glm4.chat.glm4 import Glm4Format
from glm4.checkpoints import load_model_weights, read_architecture, save_checkpoint
from glm4.models.eva_clip import EVAConfig
from glm4.models.glm4v import GLM4V, MEAN, STD, GLM4VConfig
from glm4.tokenizers import load_tokenizer
from tools.default_model.train import IN_FLOAT32, Report, average_gradients, rate

from .data import Pictured, conversation
from .pictures import Scene, paint, scene
from .targets import Guide, targets

REPO = Path(__file__).resolve().parents[2]
TEXT_MODEL = REPO / "glm4/assets/default"  # whose vocabulary it shares
VISION = EVAConfig(
    image_size=96,
    patch_size=8,
    hidden_size=128,
    ffn_size=256,
    n_layers=5,
    n_heads=4,
    norm_eps=1e-6,
    scaling_factor=8.0,
    out_size=192,
    out_ffn_size=384,
)


def config_for(tokenizer: ChatTokenizer) -> GLM4VConfig:
    """The model's numbers; 3.97 million parameters."""
    return GLM4VConfig(
        vocab_size=4096,
        hidden_size=VISION.out_size,
        ffn_size=VISION.out_ffn_size,
        n_layers=4,
        n_heads=4,
        n_kv_heads=2,
        head_dim=48,
        rotary_dim=24,
        rope_theta=10000.0,
        norm_eps=1.5625e-07,
        qkv_bias=True,
        sandwich_norms=False,
        max_positions=2048,
        vision=VISION,
        boi_token_id=tokenizer.special_tokens["<|begin_of_image|>"],
        eoi_token_id=tokenizer.special_tokens["<|end_of_image|>"],
    )


def seeing_tokenizer(folder: Path) -> ChatTokenizer:
    """The text model's vocabulary with GLM-4V's way of writing pictures."""
    tokenizer = load_tokenizer(folder)
    return ChatTokenizer(tokenizer, Glm4Format(tokenizer, "glm-4v"))


@dataclass
class Batch:
    """Conversations with the same number of pictures each, padded on the right."""

    ids: Tensor  # [B, T]
    said: Tensor  # [B, T], True on what the assistant says
    pixels: Tensor  # uint8 [N, S, S, 3], row by row
    targets: Tensor  # uint8 [N, 7, grid, grid]


Row = tuple[list[int], list[int], Pictured]


class Looks(IterableDataset[Batch]):
    """Batches of crowded pictures, and nothing said of them."""

    def __init__(self, seed: int, pictures: int, first_step: int, rank: int) -> None:
        self.seed, self.pictures, self.first_step, self.rank = seed, pictures, first_step, rank

    def __iter__(self) -> Iterator[Batch]:
        torch.set_num_threads(1)
        step = self.first_step
        while True:
            rng = random.Random(f"{self.seed}/look/{step}/{self.rank}")
            scenes = [
                scene(rng, "train", least=rng.choice((1, 4)), word_share=0.65, letters_least=rng.choice((2, 4)))
                for _ in range(self.pictures)
            ]
            nothing = torch.zeros(self.pictures, 1, dtype=torch.long)
            yield Batch(nothing, nothing.bool(), *_pixels_and_targets(scenes))
            step += 1


class Conversations(IterableDataset[Batch]):
    """An endless stream of batches of about `batch_slots` slots, conversations of similar length together.

    A step's batch depends on the seed, the step and the process alone, so that a resumed run goes on as an unbroken
    one would have.
    """

    POOL = 16  # batches drawn together
    EASY_POOLS = 30  # at the start, of one picture with few shapes a conversation: first how to look at one of them
    EASY_PARTS = ((1, 15), (0, 1))  # (pictures a conversation, batches of a pool)
    PARTS = ((1, 11), (2, 3), (3, 1), (0, 1))
    EASY_MOST, MOST = (1, 1, 2, 3), (1, 2, 3, 4, 6, 6)  # shapes a picture may show

    def __init__(self, tokenizer: ChatTokenizer, seed: int, batch_slots: int, first_step: int, rank: int) -> None:
        self.tokenizer, self.seed, self.batch_slots = tokenizer, seed, batch_slots
        self.first_step, self.rank = first_step, rank

    def __iter__(self) -> Iterator[Batch]:
        torch.set_num_threads(1)
        index, skip = divmod(self.first_step, self.POOL)
        while True:
            yield from self._pool(index)[skip:]
            index, skip = index + 1, 0

    def _pool(self, index: int) -> list[Batch]:
        rng = random.Random(f"{self.seed}/{index}/{self.rank}")
        batches: list[list[Row]] = []
        easy = index < self.EASY_POOLS
        for pictures, parts in self.EASY_PARTS if easy else self.PARTS:
            rows: list[Row] = []
            room = parts * self.batch_slots
            while room > 0:
                made = conversation(rng, pictures, most=rng.choice(self.EASY_MOST if easy else self.MOST))
                rendered = self.tokenizer.render_for_training(made.messages)
                rows.append((list(rendered.ids), [int(x) for x in rendered.loss_mask], made))
                room -= len(rendered.ids) + pictures * VISION.n_patches
            rows.sort(key=lambda row: len(row[0]))
            cuts = [len(rows) * part // parts for part in range(parts + 1)]
            batches += [rows[start:end] for start, end in pairwise(cuts)]
        rng.shuffle(batches)
        return [_batch(rows) for rows in batches]


def _batch(rows: list[Row]) -> Batch:
    length = max(len(ids) for ids, _, _ in rows)
    ids, said = torch.zeros(len(rows), length, dtype=torch.long), torch.zeros(len(rows), length, dtype=torch.bool)
    for row, (row_ids, row_mask, _) in enumerate(rows):
        ids[row, : len(row_ids)] = torch.tensor(row_ids)
        said[row, : len(row_mask)] = torch.tensor(row_mask, dtype=torch.bool)
    return Batch(ids, said, *_pixels_and_targets([one for _, _, made in rows for one in made.scenes]))


def _pixels_and_targets(scenes: list[Scene]) -> tuple[Tensor, Tensor]:
    size = (VISION.image_size, VISION.image_size)
    if not scenes:
        nothing = torch.zeros(0, *size, 3, dtype=torch.uint8)
        return nothing, nothing
    pixels = [np.asarray(paint(one).resize(size, Image.Resampling.BICUBIC)) for one in scenes]
    return torch.from_numpy(np.stack(pixels)), torch.stack([targets(one) for one in scenes])


def initialise(model: GLM4V, seed: int) -> None:
    """The decoder as in tools/default_model; the tower's products so that they keep their input's size."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        tower = name.startswith("vision.")
        if parameter.ndim < 2:
            nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)
        elif tower and name.endswith(("embedding", "boi", "eoi")):
            nn.init.normal_(parameter, std=0.5, generator=generator)
        elif tower:
            nn.init.normal_(parameter, std=math.prod(parameter.shape[1:]) ** -0.5, generator=generator)
        else:
            writes_residual = name.endswith(("o_proj.weight", "down_proj.weight"))
            std = 0.02 / (2 * model.config.n_layers) ** 0.5 if writes_residual else 0.02
            nn.init.normal_(parameter, std=std, generator=generator)


def _attention_in_float32(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    """On CPUs without matrix instructions for bfloat16, attention is twice as fast so, and nothing else is."""
    with torch.autocast("cpu", enabled=False):
        return _ATTENTION(q.float(), k.float(), v.float(), **options)


_ATTENTION = F.scaled_dot_product_attention


def look(model: GLM4V, guide: Guide, batch: Batch) -> tuple[Tensor | None, Tensor]:
    """The pictures' features, and the guide's loss on them; None and 0 where there are none."""
    if not len(batch.pixels):
        return None, torch.zeros(())
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    features = model.vision((batch.pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std)
    return features, guide.loss(features[:, 1:-1] * VISION.scaling_factor, batch.targets)


def loss_of(model: GLM4V, guide: Guide, batch: Batch, question_weight: float = 0.0) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of what the assistant says, 0 where nothing is said, and the guide's loss.

    Args:
        question_weight: how much a token counts that the assistant does not say. What people ask about is in the
            picture, so that foreseeing their questions teaches to look at it.
    """
    ids, said = batch.ids[:, :-1], batch.said[:, 1:]
    with torch.autocast("cpu", torch.bfloat16), patch.object(F, _ATTENTION.__name__, _attention_in_float32):
        features, seeing = look(model, guide, batch)
        if not said.any():
            return torch.zeros(()), seeing
        embedded = model.embed(ids, features)
        hidden = model(embedded, torch.stack([model.positions(row) for row in ids]))
        # Column of ids -> slot: every picture before it has pushed it to the right.
        ends = (ids == model.config.eoi_token_id).cumsum(1)
        slots = torch.arange(ids.shape[1]) + ends * (VISION.n_patches - 1)
        counted = said | (batch.ids[:, 1:] != 0) if question_weight else said
        rows, columns = counted.nonzero(as_tuple=True)
        logits = model.logits(hidden[rows, slots[rows, columns]])
    losses = F.cross_entropy(logits, batch.ids[:, 1:][rows, columns], reduction="none")
    weights = said[rows, columns].float().clamp(min=question_weight)
    return (losses * weights).sum() / said.sum(), seeing


def optimizer_for(model: GLM4V, guide: Guide) -> torch.optim.Optimizer:
    """AdamW; the layers' matrices decay, embeddings, head, norms and biases do not."""
    decayed = [p for part in (model.layers, model.vision.layers) for p in part.parameters() if p.ndim == 2]
    chosen = {id(p) for p in decayed}
    rest = [p for p in (*model.parameters(), *guide.parameters()) if id(p) not in chosen]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.95))


def train(args: argparse.Namespace) -> None:
    """Train up to `args.steps`, saving the whole state every `args.save_every` steps."""
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group("gloo")
    args.out.mkdir(parents=True, exist_ok=True)
    state_file = args.out / "state.pt"
    tokenizer = seeing_tokenizer(args.tokenizer)
    model = GLM4V(config_for(tokenizer))
    initialise(model, args.seed)
    guide = Guide(VISION.out_size, torch.Generator().manual_seed(args.seed))
    optimizer = optimizer_for(model, guide)
    step = 0
    if state_file.exists():
        state: dict[str, Any] = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        guide.load_state_dict(state["guide"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
        print(f"process {rank} resumes at step {step}", flush=True)
    elif args.init:
        model.load_state_dict(load_model_weights(args.init, read_architecture(args.init), **IN_FLOAT32).state_dict())
    batches = _batches(args, tokenizer, step, rank)
    report = Report(args.out / "log.csv", args.log_every, args.steps)
    parameters = [*model.parameters(), *guide.parameters()]
    while step < args.steps:
        share = rate(step, args.steps, args.warmup, args.decay)
        for group in optimizer.param_groups:
            group["lr"] = args.lr * share
        looking = step < args.looks
        for parameter in parameters:  # zeros, not None: a batch without pictures must not shift who averages what
            parameter.grad = None if looking or world == 1 else torch.zeros_like(parameter)
        batch = next(batches)
        loss, seeing = loss_of(model, guide, batch, args.question_weight * share)
        (loss + (1 if looking else args.guide * share) * seeing).backward()
        for part in (guide, model.vision) if looking else (guide, model):
            average_gradients(part)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        if rank == 0:
            slots = batch.ids.numel() + len(batch.pixels) * VISION.n_patches
            report.add(step, seeing.item() if looking else loss.item(), slots * world)
            if step % args.save_every == 0 or step == args.steps:
                state = {
                    "model": model.state_dict(),
                    "guide": guide.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": step,
                }
                torch.save(state, state_file.with_suffix(".tmp"))
                state_file.with_suffix(".tmp").replace(state_file)
    if world > 1:
        dist.destroy_process_group()


def _batches(args: argparse.Namespace, tokenizer: ChatTokenizer, step: int, rank: int) -> Iterator[Batch]:
    """The batches from `step` on, made in a process of their own: pictures alone for `args.looks` steps, then talk."""
    if step < args.looks:
        looks = Looks(args.seed, args.look_pictures, step, rank)
        yield from islice(DataLoader(looks, batch_size=None, num_workers=1, prefetch_factor=32), args.looks - step)
    talk = Conversations(tokenizer, args.seed, args.batch_slots, max(0, step - args.looks), rank)
    yield from DataLoader(talk, batch_size=None, num_workers=1, prefetch_factor=32)


def export(run: Path, tokenizer_folder: Path, folder: Path) -> None:
    """Write the weights of `run` as a GLM-4V checkpoint in bfloat16, with the tokenizer's files."""
    tokenizer = seeing_tokenizer(tokenizer_folder)
    model = GLM4V(config_for(tokenizer))
    model.load_state_dict(torch.load(run / "state.pt", weights_only=True)["model"])
    specials = tokenizer.special_tokens
    stop_ids = [specials[name] for name in ("<|endoftext|>", "<|user|>", "<|observation|>")]
    generation = {"eos_token_id": stop_ids, "pad_token_id": stop_ids[0], "do_sample": False}
    save_checkpoint(model.to(torch.bfloat16), folder, layout="thudm", generation_config=generation)
    shutil.copyfile(tokenizer_folder / "tokenizer.model", folder / "tokenizer.model")
    written = (tokenizer_folder / "tokenizer_config.json").read_text(encoding="utf-8")
    written = written.replace('"glm-4-chat",', f'"glm-4v",\n  "image_size": {VISION.image_size},')
    (folder / "tokenizer_config.json").write_text(written, encoding="utf-8")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/seeing_model"), help="folder for state and log")
    parser.add_argument("--tokenizer", type=Path, default=TEXT_MODEL)
    parser.add_argument("--init", type=Path, help="start from this checkpoint's weights instead of random ones")
    parser.add_argument("--export", type=Path, help="write the run's weights to this folder and stop")
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--looks", type=int, default=2400, help="steps of them that train the tower alone")
    parser.add_argument("--look-pictures", type=int, default=32, help="pictures in such a step, of each process")
    parser.add_argument("--batch-slots", type=int, default=2048, help="slots in the other steps, of each process")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--warmup", type=int, default=200, help="steps of rising learning rate")
    parser.add_argument("--decay", type=float, default=0.35, help="share of the steps over which it falls")
    parser.add_argument("--guide", type=float, default=0.3, help="weight of what each patch shows")
    parser.add_argument("--question-weight", type=float, default=0.2, help="of tokens not said by the assistant")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log-every", type=int, default=20)
    parser.add_argument("--save-every", type=int, default=50)
    args = parser.parse_args()
    if args.export:
        export(args.out, args.tokenizer, args.export)
    else:
        train(args)


if __name__ == "__main__":
    main()
