"""Train the default model from scratch. Resumable: run the same command again and it goes on where it stopped.

    python tools/default_model/train.py --steps 5500 --run runs/default_model
    python tools/default_model/train.py --run runs/default_model --export glm4/assets/default

The learning rate rises, stays, and falls linearly to zero over the last `--decay` share of the steps. A run that must
end early can therefore be resumed with a smaller `--steps`: it enters its decay at once.
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from glm4.chat import ChatTokenizer
from glm4.checkpoints import save_checkpoint
from glm4.models.glm import GLM, GLMConfig
from tools.default_model.data import conversation

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
    max_positions=2048,
)
Batch = tuple[Tensor, Tensor]  # ids [B, T] and loss mask [B, T], padded on the right


class Conversations(IterableDataset[Batch]):
    """An endless stream of batches of about `batch_tokens` tokens, conversations of similar length together.

    Batch k depends on the seed and k alone, so that a resumed run sees what an unbroken one would have seen.
    """

    POOL = 16  # batches drawn, sorted by length and cut at a time

    def __init__(self, tokenizer: ChatTokenizer, seed: int, batch_tokens: int, first_batch: int) -> None:
        self.tokenizer, self.seed, self.batch_tokens, self.first_batch = tokenizer, seed, batch_tokens, first_batch

    def __iter__(self) -> Iterator[Batch]:
        torch.set_num_threads(1)
        pool_index, skip = divmod(self.first_batch, self.POOL)
        while True:
            yield from self._pool(pool_index)[skip:]
            pool_index, skip = pool_index + 1, 0

    def _pool(self, index: int) -> list[Batch]:
        rng = random.Random(f"{self.seed}/{index}")
        rows: list[tuple[list[int], list[int]]] = []
        room = self.POOL * self.batch_tokens
        while room > 0:
            sample = conversation(rng, "train")
            rendered = self.tokenizer.render_for_training(sample.messages, tools=sample.tools)
            if len(rendered.ids) <= CONFIG.max_positions:
                rows.append((list(rendered.ids), [int(x) for x in rendered.loss_mask]))
                room -= len(rendered.ids)
        rows.sort(key=lambda row: len(row[0]))
        share = sum(len(row[0]) for row in rows) / self.POOL
        batches: list[list[tuple[list[int], list[int]]]] = [[]]
        filled = 0.0
        for row in rows:
            if filled >= share * len(batches) and len(batches) < self.POOL:
                batches.append([])
            batches[-1].append(row)
            filled += len(row[0])
        while len(batches) < self.POOL:  # the pool is a fixed number of batches, or resuming could not count them
            batches.append(batches[-1])
        rng.shuffle(batches)
        return [_padded(batch) for batch in batches]


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


def loss_of(model: GLM, batch: Batch) -> Tensor:
    """Mean cross-entropy over the tokens that the model must emit; only their rows reach the head."""
    ids, mask = batch
    positions = torch.arange(ids.shape[1] - 1).expand(ids.shape[0], -1)
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model(model.embed(ids[:, :-1]), positions)
        logits = model.logits(hidden[mask[:, 1:]])
    return F.cross_entropy(logits, ids[:, 1:][mask[:, 1:]])


def optimizers_for(model: GLM) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for embedding, head, norms and biases.

    Muon's updates all have the size that AdamW's have (`match_rms_adamw`) and bear twice its learning rate.
    """
    matrices = [p for p in model.layers.parameters() if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon([{"params": matrices, "share": 2.0}], weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([{"params": rest, "share": 1.0}], betas=(0.9, 0.98), weight_decay=0.0),
    ]


def rate(step: int, steps: int, peak: float, warmup: int, decay: float) -> float:
    """Learning rate at `step` of `steps`: linear rise, plateau, linear fall over the last `decay` share."""
    fall_from = steps * (1 - decay)
    return peak * min(1.0, (step + 1) / warmup, max(0.0, (steps - step) / (steps - fall_from)))


def train(args: argparse.Namespace) -> None:
    """Train up to `args.steps`, saving the whole state every `args.save_every` steps."""
    args.run.mkdir(parents=True, exist_ok=True)
    state_file = args.run / "state.pt"
    tokenizer = ChatTokenizer.load(args.tokenizer)
    model = GLM(CONFIG)
    initialise(model, args.seed)
    optimizers = optimizers_for(model)
    step = 0
    if state_file.exists():
        state: dict[str, Any] = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        step = state["step"]
        print(f"resuming at step {step}", flush=True)
    stream = Conversations(tokenizer, args.seed, args.batch_tokens, first_batch=step)
    batches = iter(DataLoader(stream, batch_size=None, num_workers=1, prefetch_factor=32))

    def save() -> None:
        states = [optimizer.state_dict() for optimizer in optimizers]
        torch.save({"model": model.state_dict(), "optimizers": states, "step": step}, state_file.with_suffix(".tmp"))
        state_file.with_suffix(".tmp").replace(state_file)

    log = (args.run / "log.csv").open("a", newline="")
    writer = csv.writer(log)
    tokens, losses, since = 0, 0.0, time.monotonic()
    while step < args.steps:
        batch = next(batches)
        loss = loss_of(model, batch)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["share"] * rate(step, args.steps, args.lr, args.warmup, args.decay)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
        tokens += batch[0].numel()
        losses += loss.item()
        if step % args.log_every == 0:
            speed = tokens / (time.monotonic() - since)
            writer.writerow([step, f"{losses / args.log_every:.4f}", tokens, f"{speed:.0f}"])
            log.flush()
            print(f"step {step}/{args.steps}  loss {losses / args.log_every:.4f}  {speed:.0f} tokens/s", flush=True)
            tokens, losses, since = 0, 0.0, time.monotonic()
        if step % args.save_every == 0 or step == args.steps:
            save()


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
    parser.add_argument("--run", type=Path, default=Path("runs/default_model"), help="folder for state and log")
    parser.add_argument("--tokenizer", type=Path, default=REPO / "glm4/assets/default")
    parser.add_argument("--export", type=Path, help="write the run's weights to this folder and stop")
    parser.add_argument("--steps", type=int, default=5500)
    parser.add_argument("--batch-tokens", type=int, default=6144)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--warmup", type=int, default=100, help="steps of rising learning rate")
    parser.add_argument("--decay", type=float, default=0.35, help="share of the steps over which it falls")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log-every", type=int, default=20)
    parser.add_argument("--save-every", type=int, default=50)
    args = parser.parse_args()
    if args.export:
        export(args.run, args.tokenizer, args.export)
    else:
        train(args)


if __name__ == "__main__":
    main()
