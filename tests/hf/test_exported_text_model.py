"""The exported text model: numbers are the library's own, and transformers' ways of generating all agree."""

from __future__ import annotations

import copy
import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from exported import CONTEXT, ENDS, HOLDER, V, checkpoint, load, load_tokenizer
from packaging.version import Version
from random_models import random_ids
from safetensors.torch import load_file
from torch import Tensor

import glm4
from glm4.hf import export

CLOSE = {"atol": 1e-5, "rtol": 0}
PROMPT = random_ids(3, 1, 11, vocab_size=256)
ENDLESS = {"eos_token_id": None, "pad_token_id": HOLDER, "do_sample": False, "max_new_tokens": 12}


@pytest.mark.parametrize("name", ["glm-4-9b", "glm-4-9b-chat", "glm-4-9b-chat-1m"])
def test_goldens_through_the_export(name: str, shared: Path, tmp_path: Path) -> None:
    folder = shared / "golden" / name
    recorded = load_file(folder / "expected.safetensors")
    model = load(export(folder, tmp_path / "exported"))
    ids = recorded["input_ids"]
    with torch.no_grad():
        assert recorded["logits"].abs().max() > 9
        torch.testing.assert_close(model(ids).logits, recorded["logits"], atol=1e-4, rtol=0)
        padded, mask = torch.cat((torch.full((1, 5), 620), ids[:1]), 1), torch.tensor([[0] * 5 + [1] * ids.shape[1]])
        for positions in (None, torch.tensor([[0] * 5 + list(range(ids.shape[1]))])):
            out = model(padded, attention_mask=mask, position_ids=positions).logits[:, 5:]
            torch.testing.assert_close(out, recorded["padded_logits"], atol=1e-4, rtol=0)
        out = model(ids[:1], position_ids=recorded["strided_position_ids"]).logits
        torch.testing.assert_close(out, recorded["strided_logits"], atol=1e-4, rtol=0)
    prompt = recorded["greedy_prompt"]
    made = model.generate(prompt, max_new_tokens=24, do_sample=False, temperature=None, top_p=None, eos_token_id=None)
    assert torch.equal(made[:, prompt.shape[1] :], recorded["greedy_ids"])


def test_equal_to_our_own(text_checkpoint: Path, text_model: Any) -> None:
    llm = glm4.load_model(text_checkpoint, dtype="float32", device="cpu")
    ids = random_ids(1, 3, 20, vocab_size=V)
    with torch.no_grad():
        torch.testing.assert_close(text_model(ids).logits, llm.logits(ids), **CLOSE)
        few = text_model(ids, logits_to_keep=2).logits
        assert few.shape == (3, 2, V)
        torch.testing.assert_close(few, llm.logits(ids)[:, -2:], **CLOSE)
        picked = text_model(ids, logits_to_keep=torch.tensor([0, 7])).logits
        torch.testing.assert_close(picked, llm.logits(ids)[:, [0, 7]], **CLOSE)
    made = llm.generate(PROMPT[0].tolist(), max_tokens=12, temperature=0, ignore_eos=True)
    assert text_model.generate(PROMPT, **ENDLESS)[0, 11:].tolist() == list(made.token_ids)


def test_the_generation_config_ends_replies(text_model: Any) -> None:
    assert text_model.generation_config.eos_token_id == ENDS
    assert text_model.generation_config.pad_token_id == HOLDER
    stops = text_model.generate(
        PROMPT, max_new_tokens=5, eos_token_id=text_model.generate(PROMPT, **ENDLESS)[0, 12].item()
    )
    assert stops.shape[1] == 13


# Ways to generate that must agree -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def greedy(text_model: Any) -> Tensor:
    """What no cache gives."""
    made: Tensor = text_model.generate(PROMPT, use_cache=False, **ENDLESS)
    return made


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"cache_implementation": "static"},
        {"prompt_lookup_num_tokens": 3},
        {"attention_mask": torch.ones_like(PROMPT)},
        {"position_ids": torch.arange(PROMPT.shape[1])[None]},
        {"past_key_values": "a new DynamicCache"},
        {"assistant_model": "the model itself"},
    ],
    ids=lambda how: next(iter(how), "default"),
)
def test_every_cache_gives_the_same_tokens(how: dict[str, Any], text_model: Any, greedy: Tensor) -> None:
    how = dict(how)
    if "cache_implementation" in how:
        text_model = copy.deepcopy(text_model)  # 4.46 makes the cache a part of the model
    if "past_key_values" in how:
        how["past_key_values"] = transformers.DynamicCache()
    if "assistant_model" in how:
        how["assistant_model"] = copy.deepcopy(text_model)
    assert torch.equal(text_model.generate(PROMPT, **ENDLESS, **how), greedy)


def test_only_the_logits_that_are_looked_at(text_model: Any) -> None:
    """A prompt of 8,000 tokens would have 5 GB of them."""
    shapes: list[int] = []
    head = text_model.transformer.output_layer
    hook = head.register_forward_hook(lambda _module, _args, out: shapes.append(out.shape[1]))
    text_model.generate(PROMPT, **ENDLESS)
    hook.remove()
    assert shapes == [1] * 12


def test_embedded_prompts(text_model: Any, greedy: Tensor) -> None:
    embedded = text_model.get_input_embeddings()(PROMPT)
    assert torch.equal(text_model.generate(inputs_embeds=embedded, **ENDLESS), greedy[:, 11:])


def test_a_conversation_goes_on_from_its_cache(text_model: Any) -> None:
    first = text_model.generate(PROMPT, return_dict_in_generate=True, **ENDLESS)
    longer = torch.cat((first.sequences, random_ids(8, 1, 5, vocab_size=256)), 1)
    again = text_model.generate(longer, past_key_values=first.past_key_values, **ENDLESS)
    assert torch.equal(again, text_model.generate(longer, **ENDLESS))


@pytest.mark.parametrize("how", [{"num_beams": 3}, {"num_beams": 4, "num_return_sequences": 2}], ids=str)
def test_beams_with_and_without_a_cache(how: dict[str, Any], text_model: Any) -> None:
    """The cache follows the beams as they change places."""
    ids = random_ids(5, 2, 7, vocab_size=256)
    with_cache = text_model.generate(ids, **how, **ENDLESS)
    assert with_cache.shape[0] == 2 * how.get("num_return_sequences", 1)
    assert torch.equal(with_cache, text_model.generate(ids, use_cache=False, **how, **ENDLESS))
    assert not torch.equal(with_cache[:1], text_model.generate(ids[:1], **ENDLESS)), "beams that find nothing better"


def test_a_padded_batch_is_each_alone(text_model: Any) -> None:
    prompts = [random_ids(seed, length, vocab_size=256) for seed, length in ((1, 4), (2, 9), (3, 1))]
    ids = torch.stack([torch.cat((torch.full((9 - len(p),), HOLDER), p)) for p in prompts])
    mask = torch.stack([torch.cat((torch.zeros(9 - len(p)), torch.ones(len(p)))) for p in prompts]).long()
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    together = text_model.generate(ids, attention_mask=mask, **ENDLESS)
    for row, prompt in zip(together, prompts, strict=True):
        assert torch.equal(row[9:], text_model.generate(prompt[None], **ENDLESS)[0, len(prompt) :])
    # As the tokenizer gives them, positions come along.
    assert torch.equal(text_model.generate(ids, attention_mask=mask, position_ids=positions, **ENDLESS), together)
    assert torch.equal(text_model.generate(ids, attention_mask=mask, use_cache=False, **ENDLESS), together)


def test_sampling_is_repeatable(text_model: Any) -> None:
    how = {**ENDLESS, "do_sample": True, "temperature": 0.7, "top_p": 0.9, "num_return_sequences": 3}
    runs = []
    for _ in range(2):
        torch.manual_seed(5)
        runs.append(text_model.generate(PROMPT, **how))
    assert torch.equal(*runs)
    assert runs[0].shape == (3, 23)


def test_streamers(text_folder: Path, text_model: Any) -> None:
    tokenizer = load_tokenizer(text_folder)
    streamer = transformers.TextIteratorStreamer(tokenizer, skip_prompt=True, timeout=30)
    how = {**ENDLESS, "inputs": PROMPT, "streamer": streamer}
    thread = threading.Thread(target=text_model.generate, kwargs=how)
    thread.start()
    text = "".join(streamer)
    thread.join()
    assert text == tokenizer.decode(text_model.generate(PROMPT, **ENDLESS)[0, 11:])


def test_pipelines(text_folder: Path, text_model: Any) -> None:
    tokenizer = load_tokenizer(text_folder)
    made = transformers.pipeline(
        "text-generation", str(text_folder), trust_remote_code=True, torch_dtype=torch.float32, device="cpu"
    )([{"role": "user", "content": "hello"}], max_new_tokens=12, do_sample=False)
    messages = made[0]["generated_text"]
    prompt = tokenizer.apply_chat_template(messages[:1], add_generation_prompt=True, return_tensors="pt")
    ids = prompt if isinstance(prompt, Tensor) else prompt["input_ids"]
    reply = text_model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
    assert messages[1] == {"role": "assistant", "content": tokenizer.decode(reply, skip_special_tokens=True)}


# What else forward gives ----------------------------------------------------------------------------------------------


def test_hidden_states(text_model: Any) -> None:
    ids = random_ids(1, 2, 9, vocab_size=V)
    with torch.no_grad():
        out = text_model(ids, output_hidden_states=True)
        assert len(out.hidden_states) == text_model.config.num_hidden_layers + 1
        assert torch.equal(out.hidden_states[0], text_model.get_input_embeddings()(ids))
        torch.testing.assert_close(text_model.transformer.logits(out.hidden_states[-1]), out.logits)
        block = text_model.transformer.encoder.layers[1]
        assert not torch.equal(out.hidden_states[1], out.hidden_states[0])
        assert not block._forward_hooks, "hooks left behind"
        cached = text_model.generate(PROMPT, **ENDLESS, output_hidden_states=True, return_dict_in_generate=True)
    assert cached.hidden_states[1][-1].shape == (1, 1, 32)


def test_loss(text_model: Any) -> None:
    ids = random_ids(2, 2, 9, vocab_size=V)
    labels = ids.clone()
    labels[0, :4] = -100
    with torch.no_grad():
        out = text_model(ids, labels=labels)
        picked = out.logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        wanted = labels[:, 1:] != -100
        torch.testing.assert_close(out.loss, -picked[wanted].mean())
        assert wanted.sum() == 13
        summed = text_model(ids, labels=labels, num_items_in_batch=26).loss
    torch.testing.assert_close(summed, out.loss / 2)
    assert out.past_key_values is None


def test_tuples(text_model: Any) -> None:
    with torch.no_grad():
        logits, cache = text_model(PROMPT, return_dict=False)
        assert cache.get_seq_length() == 11
        (alone,) = text_model(PROMPT, return_dict=False, use_cache=False)
    assert torch.equal(logits, alone)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"input_ids": PROMPT, "output_attentions": True}, "attention is fused"),
        ({"input_ids": PROMPT, "attention_mask": torch.ones(1, 5)}, r"attention_mask has shape \[1, 5\].*\[1, 11\]"),
        ({}, "input_ids or inputs_embeds"),
        ({"input_ids": PROMPT, "images": torch.zeros(1, 3, 56, 56)}, "no vision tower"),
    ],
    ids=["attentions", "mask", "nothing", "images"],
)
def test_wrong_calls_are_refused_in_words(wrong: dict[str, Any], words: str, text_model: Any) -> None:
    with pytest.raises(ValueError, match=words):
        text_model(**wrong)
    with torch.no_grad():
        assert text_model(PROMPT).logits.isfinite().all()


# Training -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradients_are_the_same_with_checkpointing(reentrant: bool, text_model: Any) -> None:
    ids = random_ids(4, 2, 8, vocab_size=V)
    gradients = []
    for checkpointing in (False, True):
        model = copy.deepcopy(text_model).train()
        model.requires_grad_(True)
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
        calls = _count_calls(model.transformer.encoder.layers[1].mlp)
        model(ids, labels=ids).loss.backward()
        assert len(calls) == 1 + checkpointing, "computed again on the way back"
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
    assert all(torch.isfinite(g).all() and g.abs().max() > 0 for g in gradients[0].values())
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-6, rtol=1e-5)


def _count_calls(module: torch.nn.Module) -> list[int]:
    calls: list[int] = []
    module.register_forward_pre_hook(lambda *_: calls.append(1))
    return calls


def test_a_few_steps_learn(text_model: Any) -> None:
    torch.manual_seed(0)
    model = copy.deepcopy(text_model).train().requires_grad_(True)
    ids = random_ids(4, 2, 8, vocab_size=V)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(6):
        loss = model(ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_a_fresh_model_from_a_config(text_folder: Path) -> None:
    torch.manual_seed(0)
    config = transformers.AutoConfig.from_pretrained(text_folder, trust_remote_code=True)
    model = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=True)
    weights = dict(model.named_parameters())
    assert all(w.isfinite().all() for w in weights.values())
    assert weights["transformer.encoder.final_layernorm.weight"].eq(1).all()
    assert weights["transformer.encoder.layers.0.self_attention.query_key_value.bias"].eq(0).all()
    assert 0.015 < weights["transformer.encoder.layers.0.mlp.dense_h_to_4h.weight"].std() < 0.025


def test_rows_can_be_added(text_model: Any) -> None:
    model = copy.deepcopy(text_model)
    with torch.no_grad():
        before = model(PROMPT).logits
        model.resize_token_embeddings(V + 8)
        after = model(PROMPT).logits
    assert model.config.vocab_size == model.config.padded_vocab_size == V + 8
    assert after.shape[-1] == V + 8
    torch.testing.assert_close(after[..., :V], before, **CLOSE)


def test_sequence_classification(text_folder: Path, text_model: Any, tmp_path: Path) -> None:
    auto = transformers.AutoModelForSequenceClassification
    torch.manual_seed(0)
    model = auto.from_pretrained(text_folder, trust_remote_code=True, num_labels=3).eval().float()
    ids = random_ids(4, 2, 8, vocab_size=V)
    with torch.no_grad():
        out = model(ids, labels=torch.tensor([0, 2]))
        hidden = text_model(ids, output_hidden_states=True).hidden_states[-1][:, -1]
        torch.testing.assert_close(out.logits, model.classifier_head(hidden), **CLOSE)
        torch.testing.assert_close(out.loss, -out.logits.log_softmax(-1)[[0, 1], [0, 2]].mean())
        model.save_pretrained(tmp_path / "saved")
        again = auto.from_pretrained(tmp_path / "saved", trust_remote_code=True).eval().float()
        torch.testing.assert_close(again(ids).logits, out.logits)


@pytest.mark.slow
def test_the_trainer(text_model: Any, text_folder: Path, tmp_path: Path) -> None:
    """transformers' own, with its collator, gradient accumulation and a checkpoint that it goes on from."""
    pytest.importorskip("accelerate")
    tokenizer = load_tokenizer(text_folder)
    texts = ["hello the weather", "hello", "the weather the weather", "你好天气。"] * 4
    rows = [{"input_ids": tokenizer.encode(text)} for text in texts]
    how = {
        "output_dir": str(tmp_path), "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2,
        "learning_rate": 5e-3, "report_to": [], "use_cpu": True, "save_steps": 10, "logging_steps": 2,
        "gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}, "disable_tqdm": True,
    }  # fmt: skip
    collator = transformers.DataCollatorForLanguageModeling(tokenizer, mlm=False)
    losses = []
    # 4.46 cannot read its own checkpoint's random state with the torch of today.
    goes_on = Version(transformers.__version__) >= Version("4.57")
    for steps, resume in ((10, None), (14, True)) if goes_on else ((14, None),):
        model = copy.deepcopy(text_model).requires_grad_(True)
        arguments = transformers.TrainingArguments(max_steps=steps, **how)
        trainer = transformers.Trainer(model, arguments, train_dataset=rows, data_collator=collator)
        trainer.train(resume_from_checkpoint=resume)
        losses += [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[4] < 0.6 * losses[0], losses
    assert losses[-1] < losses[4], losses


# A config that is not this model's ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rmsnorm": False}, "rmsnorm False; only True"),
        ({"kv_channels": None}, "no 'kv_channels'"),
        ({"pre_seq_len": 128}, "pre_seq_len 128"),
        ({"position_encoding_2d": True}, "this is ChatGLM-6B"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_configs_that_cannot_be_built(changes: dict[str, Any], words: str, text_folder: Path) -> None:
    config = transformers.AutoConfig.from_pretrained(text_folder, trust_remote_code=True)
    for key, value in changes.items():
        setattr(config, key, value)
    with pytest.raises(ValueError, match=words):
        transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=True)


def test_config_is_what_transformers_asks_for(text_folder: Path) -> None:
    config = transformers.AutoConfig.from_pretrained(text_folder, trust_remote_code=True)
    assert (config.num_hidden_layers, config.num_key_value_heads, config.head_dim) == (2, 2, 16)
    assert (config.vocab_size, config.max_position_embeddings, config.intermediate_size) == (V, CONTEXT, 48)
    assert "chatglm" in repr(config)
    assert type(config)().to_dict()["model_type"] == "chatglm"
    assert copy.deepcopy(config).to_dict() == config.to_dict()


def test_more_key_value_heads(tmp_path: Path) -> None:
    """As many as query heads, through the switch that the original has for it."""
    folder = export(checkpoint(tmp_path / "source", n_kv_heads=4), tmp_path / "exported")
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(raw | {"multi_query_attention": False, "multi_query_group_num": 1}))
    with torch.no_grad():
        logits = load(folder)(PROMPT).logits
    own = glm4.load_model(tmp_path / "source", dtype="float32", device="cpu").logits(PROMPT)
    torch.testing.assert_close(logits, own, **CLOSE)
