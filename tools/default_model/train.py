"""Train the default model from scratch. Resumable: run the same command again and it goes on where it stopped.

    torchrun --nproc-per-node 2 -m tools.default_model.train --out runs/default_model
    python -m tools.default_model.train --out runs/default_model --export glm4/assets/default

One process a core: each computes its share of every batch. A single process with two threads is slower, and much slower
when anything else runs beside it.

What the assistant says counts fully in the loss, all other tokens a little: prompts repeat themselves (a tool's name,
its parameters), and learning to foresee that makes copying appear early. For the same reason the first steps see mostly
short exercises in copying, and few conversations with tools, which are long and say little; the later ones hold extra
drill in sums and spelling, which take the most practice.

The learning rate rises, stays, and falls linearly to zero over the last `--decay` share of the steps. A run that must
end early can therefore be resumed with a smaller `--steps`: it enters its decay at once.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from glm4.chat import ChatTokenizer
from glm4.checkpoints import load_model_weights, read_architecture, save_checkpoint
from glm4.models.glm import GLM, GLMConfig

from .data import conversation, copying, drill
from .sample import Sample

REPO = Path(__file__).resolve().parents[2]
CONFIG = GLMConfig(
    vocab_size=4096,
    hidden_size=256,
    ffn_size=688,
    n_layers=6,
    n_heads=4,
    n_kv_heads=2,
    head_dim=64,
    rotary_dim=32,
    rope_theta=10000.0,
    norm_eps=1.5625e-07,
    qkv_bias=True,
    sandwich_norms=False,
    max_positions=2048,
)
IN_FLOAT32: dict[str, Any] = {"dtype": torch.float32, "device": torch.device("cpu")}
PADDING = 0  # the id of byte 0, which no conversation holds
Batch = tuple[Tensor, Tensor]  # ids [B, T] and loss mask [B, T], padded on the right


class Conversations(IterableDataset[Batch]):
    """An endless stream of batches of about `batch_tokens` tokens, conversations of similar length together.

    A step's batch depends on the seed and the step alone, so that a resumed run sees what an unbroken one would have
    seen. Of several processes each gets its share of it.
    """

    POOL = 16  # steps whose batches are drawn together, sorted by length and cut
    COPYING_POOLS, COPYING_SHARE = 60, 0.6  # so many pools at the start hold this share of exercises in copying,
    PLAIN_POOLS, PLAIN_SHARE = 80, 0.85  # and so many leave out this share of the conversations with tools;
    DRILL_POOL, DRILL_SHARE = 84, 0.45  # from this pool on, this share is drill

    def __init__(
        self, tokenizer: ChatTokenizer, seed: int, batch_tokens: int, first_step: int, rank: int, world: int
    ) -> None:
        self.tokenizer, self.seed, self.batch_tokens, self.first_step = tokenizer, seed, batch_tokens, first_step
        self.rank, self.world = rank, world

    def __iter__(self) -> Iterator[Batch]:
        torch.set_num_threads(1)
        pool_index, skip = divmod(self.first_step, self.POOL)
        while True:
            yield from self._pool(pool_index)[self.rank :: self.world][skip:]
            pool_index, skip = pool_index + 1, 0

    def _pool(self, index: int) -> list[Batch]:
        rng = random.Random(f"{self.seed}/{index}")
        rows: list[tuple[list[int], list[int]]] = []
        room = self.POOL * self.batch_tokens
        while room > 0:
            sample = self._sample(rng, index)
            rendered = self.tokenizer.render_for_training(sample.messages, tools=sample.tools)
            if len(rendered.ids) <= CONFIG.max_positions:
                rows.append((list(rendered.ids), [int(x) for x in rendered.loss_mask]))
                room -= len(rendered.ids)
        rows.sort(key=lambda row: len(row[0]))
        n_batches = self.POOL * self.world
        share = sum(len(row[0]) for row in rows) / n_batches
        batches: list[list[tuple[list[int], list[int]]]] = [[]]
        filled = 0.0
        for row in rows:
            if filled >= share * len(batches) and len(batches) < n_batches:
                batches.append([])
            batches[-1].append(row)
            filled += len(row[0])
        while len(batches) < n_batches:  # the pool is a fixed number of batches, or resuming could not count them
            batches.append(batches[-1])
        rng.shuffle(batches)
        return [_padded(batch) for batch in batches]

    def _sample(self, rng: random.Random, pool_index: int) -> Sample:
        if pool_index < self.COPYING_POOLS and rng.random() < self.COPYING_SHARE:
            return copying(rng, "train")
        if pool_index >= self.DRILL_POOL and rng.random() < self.DRILL_SHARE:
            return drill(rng, "train")
        while True:
            sample = conversation(rng, "train")
            if not sample.tools or pool_index >= self.PLAIN_POOLS or rng.random() >= self.PLAIN_SHARE:
                return sample


def _padded(rows: list[tuple[list[int], list[int]]]) -> Batch:
    length = max(len(ids) for ids, _ in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    mask = torch.zeros(len(rows), length, dtype=torch.bool)
    for row, (row_ids, row_mask) in enumerate(rows):
        ids[row, : len(row_ids)] = torch.tensor(row_ids)
        mask[row, : len(row_mask)] = torch.tensor(row_mask, dtype=torch.bool)
    return ids, mask


def initialise(model: GLM, seed: int) -> None:
    """Normal weights of deviation 0.02; the two products that write into the residual scaled down with depth."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)
            continue
        writes_residual = name.endswith(("o_proj.weight", "down_proj.weight"))
        std = 0.02 / (2 * model.config.n_layers) ** 0.5 if writes_residual else 0.02
        nn.init.normal_(parameter, std=std, generator=generator)


def loss_of(model: GLM, batch: Batch, context_weight: float) -> tuple[Tensor, float]:
    """Weighted mean cross-entropy to minimise, and the plain mean over what the assistant says.

    Args:
        context_weight: how much a token counts that the assistant does not say, against one that it does.
    """
    ids, mask = batch
    said = mask[:, 1:]
    counted = said | (ids[:, 1:] != PADDING) if context_weight else said
    positions = torch.arange(ids.shape[1] - 1).expand(ids.shape[0], -1)
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model(model.embed(ids[:, :-1]), positions)
        logits = model.logits(hidden[counted])
    losses = F.cross_entropy(logits, ids[:, 1:][counted], reduction="none")
    weights = said[counted].float()
    mean_said = (losses.detach() * weights).sum() / weights.sum()
    return (losses * weights.clamp(min=context_weight)).sum() / weights.sum(), mean_said.item()


def optimizer_for(model: GLM) -> torch.optim.Optimizer:
    """AdamW; the layers' matrices decay, embedding, head, norms and biases do not."""
    decayed = [p for p in model.layers.parameters() if p.ndim == 2]
    chosen = {id(p) for p in decayed}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.95))


def average_gradients(model: nn.Module) -> None:
    """The mean of all processes' gradients, in each of them."""
    if not dist.is_initialized():
        return
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    for gradient, mean in zip(
        gradients, (flat / dist.get_world_size()).split([g.numel() for g in gradients]), strict=True
    ):
        gradient.copy_(mean.view_as(gradient))


def rate(step: int, steps: int, warmup: int, decay: float) -> float:
    """Share of the peak learning rate at a step: linear rise, plateau, linear fall over the last `decay` of `steps`."""
    fall_from = steps * (1 - decay)
    return min(1.0, (step + 1) / warmup, max(0.0, (steps - step) / (steps - fall_from)))


def train(args: argparse.Namespace) -> None:
    """Train up to `args.steps`, saving the whole state every `args.save_every` steps."""
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world > 1:
        dist.init_process_group("gloo")
        torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    state_file = args.out / "state.pt"
    tokenizer = ChatTokenizer.load(args.tokenizer)
    model = GLM(CONFIG)
    initialise(model, args.seed)
    optimizer = optimizer_for(model)
    step = 0
    if state_file.exists():
        state: dict[str, Any] = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
        print(f"process {rank} resumes at step {step}", flush=True)
    elif args.init:
        model.load_state_dict(load_model_weights(args.init, read_architecture(args.init), **IN_FLOAT32).state_dict())
    stream = Conversations(tokenizer, args.seed, args.batch_tokens, step, rank, world)
    batches = iter(DataLoader(stream, batch_size=None, num_workers=1, prefetch_factor=32))
    report = Report(args.out / "log.csv", args.log_every, args.steps)
    while step < args.steps:
        share = rate(step, args.steps, args.warmup, args.decay)
        for group in optimizer.param_groups:
            group["lr"] = args.lr * share
        batch = next(batches)
        loss, mean_said = loss_of(model, batch, args.context_weight * share)
        loss.backward()
        average_gradients(model)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if rank == 0:
            report.add(step, mean_said, batch[0].numel() * world)
            if step % args.save_every == 0 or step == args.steps:
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
                torch.save(state, state_file.with_suffix(".tmp"))
                state_file.with_suffix(".tmp").replace(state_file)
    if world > 1:
        dist.destroy_process_group()


class Report:
    """Prints loss and speed now and then, and appends them to a CSV file."""

    def __init__(self, file: Path, every: int, steps: int) -> None:
        self.file, self.every, self.steps = file, every, steps
        self._losses: list[float] = []
        self._tokens, self._since = 0, time.monotonic()

    def add(self, step: int, loss: float, tokens: int) -> None:
        """Count one step."""
        self._losses.append(loss)
        self._tokens += tokens
        if len(self._losses) < self.every:
            return
        mean, speed = sum(self._losses) / len(self._losses), self._tokens / (time.monotonic() - self._since)
        with self.file.open("a", newline="") as log:
            csv.writer(log).writerow([step, f"{mean:.4f}", self._tokens, f"{speed:.0f}"])
        print(f"step {step}/{self.steps}  loss {mean:.4f}  {speed:.0f} tokens/s", flush=True)
        self._losses, self._tokens, self._since = [], 0, time.monotonic()


def export(run: Path, tokenizer: Path, folder: Path) -> None:
    """Write the weights of `run` as a GLM-4 checkpoint in bfloat16, beside the tokenizer."""
    model = GLM(CONFIG)
    model.load_state_dict(torch.load(run / "state.pt", weights_only=True)["model"])
    specials = ChatTokenizer.load(tokenizer).special_tokens
    stop_ids = [specials[name] for name in ("<|endoftext|>", "<|user|>", "<|observation|>")]
    generation = {"eos_token_id": stop_ids, "pad_token_id": stop_ids[0], "do_sample": False}
    save_checkpoint(model.to(torch.bfloat16), folder, layout="thudm", generation_config=generation)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/default_model"), help="folder for state and log")
    parser.add_argument("--tokenizer", type=Path, default=REPO / "glm4/assets/default")
    parser.add_argument("--init", type=Path, help="start from this checkpoint's weights instead of random ones")
    parser.add_argument("--export", type=Path, help="write the run's weights to this folder and stop")
    parser.add_argument("--steps", type=int, default=8100)
    parser.add_argument("--batch-tokens", type=int, default=6144)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--warmup", type=int, default=100, help="steps of rising learning rate")
    parser.add_argument("--decay", type=float, default=0.35, help="share of the steps over which it falls")
    parser.add_argument("--context-weight", type=float, default=0.3, help="of tokens not said by the assistant")
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
