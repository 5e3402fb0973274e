"""Messages as programs print them, and as people paste them."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glm4.cli import main
from glm4.doctor import examine_text
from glm4.doctor.known_faults import KNOWN_ERRORS, KnownError
from glm4.doctor.matching import find_known_errors

# As users met them: the threads are those of the survey of what users ask for, the rest was seen while running the
# original checkpoints on today's libraries.
PRINTED = {
    "TypeError: ChatGLM4Tokenizer._pad() got an unexpected keyword argument 'padding_side'": "tokenizer-padding-side",
    "    cache_k, cache_v = kv_cache\nValueError: too many values to unpack (expected 2)": "cache-unpack",
    "TypeError: GenerationMixin._extract_past_from_model_output() got an unexpected keyword argument "
    "'standardize_cache_format'": "standardize-cache-format",
    "AttributeError: 'ChatGLMForConditionalGeneration' object has no attribute "
    "'_extract_past_from_model_output'": "extract-past",
    "AttributeError: 'ChatGLMConfig' object has no attribute 'max_length'": "config-max-length",
    "AttributeError: 'ChatGLMConfig' object has no attribute 'use_cache'": "config-use-cache",
    "AttributeError: 'ChatGLMForConditionalGeneration' object has no attribute "
    "'all_tied_weights_keys'. Did you mean: '_tied_weights_keys'?": "tied-weights-keys",
    "AttributeError: 'ChatGLMConfig' object has no attribute 'num_hidden_layers'": "num-hidden-layers",
    "AttributeError: can't set attribute 'eos_token'": "eos-token-setter",
    "AttributeError: property 'eos_token' of 'ChatGLM4Tokenizer' object has no setter": "eos-token-setter",
    "AttributeError: 'GenerationConfig' object has no attribute '_eos_token_tensor'": "eos-token-tensor",
    "AttributeError: 'ChatGLMForConditionalGeneration' object has no attribute 'stream_chat'": "no-chat-method",
    "AttributeError: 'ChatGLMForConditionalGeneration' object has no attribute 'chat'": "no-chat-method",
    "OSError: /root/out/checkpoint-6000 does not appear to have a file named configuration_chatglm.py. Checkout "
    "'https://huggingface.co//root/out/checkpoint-6000/tree/None' for available files.": "missing-code-file",
    "ValueError: Unrecognized configuration class <class 'transformers_modules.THUDM.glm-4-9b-chat."
    "eb55a443d66541f30869f6caac5ad0d2e95bcbaa.configuration_chatglm.ChatGLMConfig'> to build an "
    "AutoTokenizer.": "unrecognized-configuration",
    "ValueError: Tokenizer class ChatGLM4Tokenizer does not exist or is not currently imported.":
        "unrecognized-configuration",
    "KeyError: '<|endoftext|>'": "endoftext-key",
    "ValueError: Model architectures ['GlmForCausalLM'] are not supported for now.": "hf-layout-not-supported",
    "TypeError: glm isn't supported yet.": "hf-layout-not-supported",
    "AttributeError: ChatGLM4Tokenizer has no attribute batch_encode_plus": "batch-encode-plus",
    "    past_length = past_key_values[0][0].shape[0]\n"
    "AttributeError: 'NoneType' object has no attribute 'shape'": "none-has-no-shape",
    "UnboundLocalError: cannot access local variable 'num_patches' where it is not associated with a "
    "value": "glm4v-first-revision",
    "ValueError: 151339 is not in list": "glm4v-first-revision",
    "ValueError: ChatGLMForConditionalGeneration does not support an attention implementation through "
    "torch.nn.functional.scaled_dot_product_attention yet.": "glm4v-sdpa",
    "ValueError: Expected input batch_size (13) to match target batch_size (1609).": "glm4v-batch-size",
    "AttributeError: 'ChatGLMTokenizer' object has no attribute 'sp_tokenizer'. Did you mean: "
    "'_tokenizer'?": "sp-tokenizer",
    "AttributeError: ChatGLMTokenizer has no attribute vocab_size": "sp-tokenizer",
    "TypeError: 'property' object cannot be interpreted as an integer": "sp-tokenizer",
    "ImportError: \nLlamaTokenizer requires the protobuf library but it was not found in your "
    "environment.": "protobuf-missing",
    "AssertionError: Torch not compiled with CUDA enabled": "no-cuda-build",
    "ValueError: Unsupported architecture: ''": "internvl-empty-architecture",
    "AttributeError: 'ChatGLMForConditionalGeneration' object has no attribute 'generate'": "no-generate",
    "TypeError: 'DynamicCache' object is not subscriptable": "dynamic-cache",
    "RuntimeError: operator torchvision::nms does not exist": "torchvision-nms",
    "_pickle.UnpicklingError: invalid load key, 'v'.": "pointer-instead-of-file",
    "safetensors_rust.SafetensorError: Error while deserializing header: HeaderTooLarge": "pointer-instead-of-file",
    "RuntimeError: Internal: src/sentencepiece_processor.cc(1101) [model_proto->ParseFromArray(serialized.data(), "
    "serialized.size())]": "pointer-instead-of-file",
    "safetensors_rust.SafetensorError: Error while deserializing header: MetadataIncompleteBuffer": "damaged-file",
    "RuntimeError: PytorchStreamReader failed reading zip archive: failed finding central directory": "damaged-file",
    "_pickle.UnpicklingError: Weights only load failed. This file can still be loaded": "unsafe-pickle",
    "RuntimeError: Expected all tensors to be on the same device, but found at least two devices, cuda:0 and "
    "cuda:1!": "devices-differ",
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.15 GiB "
    "of which 1.29 GiB is free.": "out-of-memory",
    "OSError: [WinError 1455] 页面文件太小，无法完成操作。": "out-of-memory",
    "RuntimeError: [enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried "
    "to allocate 234881024 bytes.": "out-of-memory",
    "RuntimeError: probability tensor contains either `inf`, `nan` or element < 0": "not-a-number",
    "RuntimeError: Input type (torch.cuda.BFloat16Tensor) and weight type (torch.cuda.HalfTensor) should be the "
    "same": "dtypes-differ",
    "KeyError: 'chatglm'": "unknown-architecture",
    "ValueError: The checkpoint you are trying to load has model type `glm4` but Transformers does not recognize this "
    "architecture.": "unknown-architecture",
    "ModuleNotFoundError: No module named 'transformers_modules.glm-4-9b-chat'": "module-name-with-dots",
    "ModuleNotFoundError: No module named 'tiktoken'": "tiktoken-missing",
    "ModuleNotFoundError: No module named 'cpm_kernels'": "quantization-kernels",
}  # fmt: skip


def names(text: str) -> list[str]:
    """The known errors in it."""
    return [match.error.name for match in find_known_errors(text)]


@pytest.mark.parametrize(("text", "name"), PRINTED.items(), ids=lambda value: str(value)[:60])
def test_messages_as_printed(text: str, name: str) -> None:
    """Each is known by its last line alone, and means one thing."""
    assert names(text) == [name]
    assert names(text.splitlines()[-1]) == [name] or text.endswith(("environment.", "'shape'", "(expected 2)"))


TRACEBACK = """Loading checkpoint shards: 100%|██████████| 10/10 [00:04<00:00,  2.1it/s]
Traceback (most recent call last):
  File "/home/me/GLM-4/basic_demo/trans_cli_demo.py", line 104, in <module>
    model_inputs = tokenizer.apply_chat_template(
  File "/home/me/.cache/huggingface/modules/transformers_modules/glm-4-9b-chat/modeling_chatglm.py", line 271, in f
    encoded_inputs = self._pad(
                     ^^^^^^^^^^
{}
"""


def wrapped(text: str, width: int = 80) -> str:
    """As a narrow terminal shows it: cut anywhere, words included."""
    return "\n".join(line[i : i + width] for line in text.splitlines() for i in range(0, max(1, len(line)), width))


def framed(text: str) -> str:
    """As some libraries draw it."""
    lines = wrapped(text, 60).splitlines()
    return "\n".join(["╭── Traceback ──╮", *(f"│ ❱ {line:<62} │" for line in lines), "╰───────────╯"])


PASTED = {
    "traceback": TRACEBACK.format,
    "wrapped": lambda text: wrapped(TRACEBACK.format(text), 37),
    "framed": framed,
    "no quotes": lambda text: re.sub("['`\"]", "", text),
    "curly quotes": lambda text: re.sub(r"['`]([^'`]*)['`]", r"“\1”", text),
    "in Chinese": lambda text: f"运行脚本一直报错：{text}，请问怎么解决？谢谢",
    "full width": lambda text: text.replace(":", "：").replace("(", "（").replace(")", "）").replace(",", "，"),
    "coloured": lambda text: f"\x1b[31m{text[:20]}\x1b[0m\x1b[1m{text[20:]}\x1b[0m",
    "upper case": str.upper,
    "quoted mail": lambda text: "\n".join("> " + line for line in wrapped(text, 50).splitlines()),
    "log": lambda text: '{"level": "error", "message": "' + text.replace("'", "\\'").replace("\n", "\\n") + '"}',
    "html": lambda text: text.replace("'", "&#39;").replace("<", "&lt;").replace(">", "&gt;"),
    "ranks": lambda text: "\n".join(f"[rank3]: {line}" for line in wrapped(text, 70).splitlines()),
    "windows": lambda text: text.replace("\n", "\r\n") + "\r\n\r\n",
}


@pytest.mark.parametrize("way", PASTED)
def test_messages_as_pasted(way: str) -> None:
    """Every message in every disguise."""
    for text, name in PRINTED.items():
        assert name in names(PASTED[way](text)), (way, text)


@pytest.mark.parametrize("error", KNOWN_ERRORS, ids=lambda error: error.name)
def test_the_table(error: KnownError) -> None:
    """Each row's messages are its own, whatever its `*` stand for; it says something short."""
    for message in error.messages:
        filled = message.replace("*", "/some/where-1.2/x y 17")
        assert error.name in names(filled), message
        assert len(re.sub(r"\W", "", message)) > 2
    assert error.cause.endswith((".", ")"))
    assert error.remedy.endswith((".", ")"))
    assert len(error.cause) < 330
    assert len(error.remedy) < 220


@pytest.mark.parametrize(
    "command",
    sorted({c for e in KNOWN_ERRORS for c in re.findall(r"`glm4 ([^`]+)`", f"{e.cause} {e.remedy} {e.glm4}")}),
)
def test_the_commands_it_names_exist(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With these flags."""
    for name in ("chat", "doctor", "export", "convert"):
        monkeypatch.setattr(f"glm4.cli.{name}.run", lambda args: 0)
    assert main(command.split()) == 0


def test_names_are_unique() -> None:
    """Programs rely on them."""
    found = [error.name for error in KNOWN_ERRORS]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    "text",
    [
        "", "   \n", "hello", "'ChatGLMConfig' object has no attribute 'max_length_of_all'", "KeyError: 'chatglm3'",
        "object has no attribute 'chat_template'", "GlmForCausalLM", "padding_side", "no such file",
        'Traceback (most recent call last):\n  File "/x/pandas/core/frame.py", line 3, in f\n    a, b = row\n'
        "ValueError: too many values to unpack (expected 2)",
        'Traceback (most recent call last):\n  File "/x/resize.py", line 3, in f\n    h, w = image.shape\n'
        "AttributeError: 'NoneType' object has no attribute 'shape'",
        'Traceback (most recent call last):\n  File "/x/bot.py", line 3, in f\n    client.chat("x")\n'
        "AttributeError: 'Client' object has no attribute 'chat'",
    ],
)  # fmt: skip
def test_other_messages(text: str) -> None:
    """Not everything that looks a little like one is one."""
    assert names(text) == []
    report = examine_text(text)
    assert not report.good
    assert "glm4 doctor -" in report.as_text()


def test_the_error_that_ended_it_comes_first() -> None:
    """Of several in one paste, the last was raised last."""
    first, last = "KeyError: '<|endoftext|>'", "AssertionError: Torch not compiled with CUDA enabled"
    between = "\n\nDuring handling of the above exception, another exception occurred:\n\n"
    assert names(first + between + last) == ["no-cuda-build", "endoftext-key"]
    assert names(last + between + first) == ["endoftext-key", "no-cuda-build"]
    everything = "\n".join(PRINTED)
    assert len(names(everything)) == 3


def test_a_browsers_translation() -> None:
    """Messages of Python translated into Chinese with the rest of a page."""
    assert names("属性错误：“ChatGLMConfig”对象没有属性“max_length”") == ["config-max-length"]
    assert names("类型错误：_pad() 得到了一个意外的关键字参数“padding_side”") == ["tokenizer-padding-side"]


@settings(max_examples=40)
@given(st.text(max_size=300) | st.text(alphabet="'\"`*()<>|\\ \n_pad.:etrobjectchglm", max_size=500))
def test_any_text(text: str) -> None:
    """Never an error, and a report every time; a known message among it is still found, at either end."""
    report = examine_text(text)
    assert report.as_text()
    assert report.as_json()
    message = "AttributeError: 'ChatGLMConfig' object has no attribute 'max_length'"
    assert "config-max-length" in names(f"{text}\n{message}")


@pytest.mark.parametrize(
    "filler",
    [" ", "GlmForCausalLM ", "\x1b[", "Input type (", "&amp;", "ﷺ", "\u0301\u0316"],
)
def test_long_texts(filler: str) -> None:
    """Ten million characters take about as long as one million, and the message at the end counts."""
    text = filler * (10_000_000 // len(filler)) + "\nTypeError: 'DynamicCache' object is not subscriptable"
    start = time.process_time()
    assert "dynamic-cache" in names(text)
    seconds = time.process_time() - start
    print(f"{filler!r}: {seconds:.2f} s")
    assert seconds < 20
