"""The error messages that people meet with this family's checkpoints: what each means, and what helps.

Most come from one source: code that was downloaded with the weights calls parts of transformers that later versions
changed. Versions named here were seen to fail or to work.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KnownError:
    """One known message.

    Attributes:
        name: short and stable, for programs.
        messages: as printed, each enough on its own; `*` stands for whatever varies.
        cause: why it happens, in a sentence or two.
        remedy: what to do about it, without changing to this library.
        glm4: what this library offers instead; "" where the remedy is all there is to say.
        context: any of these must stand somewhere in a traceback for its message to be meant; for messages that any
            program could print. A message without a traceback around it is taken at its word.
    """

    name: str
    messages: tuple[str, ...]
    cause: str
    remedy: str
    glm4: str = ""
    context: tuple[str, ...] = ()


ALONE = "glm4 reads the checkpoint without that code: `glm4 chat --model FOLDER`."
NO_CODE = (
    f"{ALONE} For programs built on transformers, `glm4 export FOLDER NEW_FOLDER` (GLM-4 and GLM-4V) writes a folder "
    "that works from 4.46 to today's."
)
_OURS = ("chatglm", "glm-4", "glm4", "internvl", "glm_4")

TRANSFORMERS_ERRORS = (
    KnownError(
        "tokenizer-padding-side",
        ("_pad() got an unexpected keyword argument 'padding_side'",),
        "transformers 4.45 and later pass `padding_side` to the tokenizer, and the checkpoint's "
        "tokenization_chatglm.py was written before that.",
        "Download tokenization_chatglm.py again (the hub's was mended for some of the models), or use "
        "transformers 4.44.2.",
        NO_CODE,
    ),
    KnownError(
        "cache-unpack",
        ("too many values to unpack (expected 2)",),
        "The checkpoint's modeling_chatglm.py, if it is from August 2024 or later, takes the cache as transformers "
        "4.44 hands it over. An older one hands over something else, which fails at the second or third token.",
        "Use transformers 4.44.2 (up to 4.48.3 works).",
        NO_CODE,
        (*_OURS, "kv_cache", "cache_k"),
    ),
    KnownError(
        "standardize-cache-format",
        ("got an unexpected keyword argument 'standardize_cache_format'", "standardize_cache_format"),
        "The modeling_chatglm.py is older than transformers 4.44, which passes one argument more. That is a GLM-4 file "
        "from before August 2024, or ChatGLM-6B's.",
        "GLM-4: download the checkpoint's *.py files again. ChatGLM-6B: use transformers 4.33.3.",
        NO_CODE,
    ),
    KnownError(
        "extract-past",
        ("has no attribute '_extract_past_from_model_output'", "no attribute '_extract_past_from_model_output'"),
        "The checkpoint's modeling_chatglm.py calls a function that transformers 4.49 removed.",
        "Use transformers 4.48.3 or older, or the model's `-hf` version, which needs no code of its own.",
        NO_CODE,
    ),
    KnownError(
        "config-max-length",
        ("'ChatGLMConfig' object has no attribute 'max_length'",),
        "transformers 5 moved the settings for generation out of config.json, where modeling_chatglm.py reads "
        "max_length. It is only the first of several such faults: no original GLM-4 checkpoint loads there.",
        "Use transformers 4.44.2 (to 4.48.3), or the model's `-hf` version.",
        NO_CODE,
    ),
    KnownError(
        "config-use-cache",
        ("'ChatGLMConfig' object has no attribute 'use_cache'",),
        "transformers 5 takes use_cache out of the configuration even where config.json has it, and "
        "modeling_chatglm.py reads it there.",
        "Use transformers 4.44.2 (to 4.48.3), or the model's `-hf` version.",
        NO_CODE,
    ),
    KnownError(
        "tied-weights-keys",
        ("has no attribute 'all_tied_weights_keys'", "all_tied_weights_keys"),
        "transformers 5 expects every model to call post_init(), which the code that came with this checkpoint "
        "does not do.",
        "Use a transformers 4: 4.44.2 for GLM-4, 4.33.3 for ChatGLM-6B.",
        NO_CODE,
    ),
    KnownError(
        "num-hidden-layers",
        ("'ChatGLMConfig' object has no attribute 'num_hidden_layers'", "no attribute 'num_hidden_layers'"),
        "The first revisions of the config.json say num_layers only. The cache of newer transformers (seen with 4.57) "
        "and vLLM ask for num_hidden_layers.",
        'Add "num_hidden_layers" with the value of "num_layers" to config.json for vLLM; for transformers use 4.44.2 '
        "(to 4.48.3).",
        NO_CODE,
    ),
    KnownError(
        "eos-token-setter",
        (
            "can't set attribute 'eos_token'",
            "can't set attribute 'pad_token'",
            "can't set attribute 'unk_token'",
            "property '*_token' of 'ChatGLM*' object has no setter",
        ),
        "A fine-tuning program wrote eos_token (or pad_token) into tokenizer_config.json, and the tokenizer's own code "
        "defines it as something that cannot be set.",
        "Copy tokenizer_config.json, special_tokens_map.json, tokenizer.model and tokenization_chatglm.py from the "
        "original checkpoint over the saved ones.",
        "glm4 reads such a folder as it is.",
    ),
    KnownError(
        "eos-token-tensor",
        ("'GenerationConfig' object has no attribute '_eos_token_tensor'", "_eos_token_tensor"),
        "The model's own stream_generate calls inner functions of transformers that expect generate() to have prepared "
        "the end tokens; so it is from about 4.42 on.",
        "Use transformers 4.40.2.",
        "glm4 reads GLM-4 and ChatGLM-6B without that code; ChatGLM2 and ChatGLM3 are not among its models.",
    ),
    KnownError(
        "no-chat-method",
        (
            "object has no attribute 'chat'",
            "object has no attribute 'stream_chat'",
            "object has no attribute 'stream_generate'",
            "object has no attribute 'build_chat_input'",
            "object has no attribute 'process_response'",
        ),
        "Later revisions of GLM-4's code dropped these methods (the 1M model kept them), and transformers' own classes "
        "never had them.",
        "Build the prompt with tokenizer.apply_chat_template and call model.generate.",
        "`glm4.load_model(FOLDER)` has chat() and stream() for every family.",
        (*_OURS, "glmfor", "glmmodel"),
    ),
    KnownError(
        "missing-code-file",
        (
            "does not appear to have a file named configuration_chatglm.py",
            "does not appear to have a file named modeling_chatglm.py",
            "does not appear to have a file named tokenization_chatglm.py",
        ),
        "config.json (auto_map) names Python files that are not in the folder, as after saving a fine-tuned model.",
        "Copy the *.py files of the original checkpoint into the folder.",
        "glm4 needs none of them.",
    ),
    KnownError(
        "unrecognized-configuration",
        (
            "Unrecognized configuration class <class '*ChatGLMConfig'>",
            "Tokenizer class ChatGLM4Tokenizer does not exist or is not currently imported",
            "Tokenizer class ChatGLMTokenizer does not exist or is not currently imported",
        ),
        "transformers was not told which class of the checkpoint's code to use: the auto_map in config.json or "
        "tokenizer_config.json lacks that entry, or trust_remote_code was not passed.",
        "Copy both files from the original checkpoint, and pass trust_remote_code=True (which runs that code).",
        NO_CODE,
    ),
    KnownError(
        "trust-remote-code",
        (
            "requires you to execute the configuration file in that repo",
            "requires you to execute the tokenizer file in that repo",
            "contains custom code which must be executed to correctly load the model",
            "Please pass the argument `trust_remote_code=True`",
        ),
        "The original checkpoints bring their model as Python code, which transformers runs only when told to.",
        "Read the code, then pass trust_remote_code=True; or take the model's `-hf` version.",
        NO_CODE,
    ),
    KnownError(
        "unknown-architecture",
        (
            "has model type `chatglm` but Transformers does not recognize this architecture",
            "has model type `glm` but Transformers does not recognize this architecture",
            "has model type `glm4` but Transformers does not recognize this architecture",
            "has model type `internvl_chat` but Transformers does not recognize this architecture",
            "KeyError: 'chatglm'",
            "KeyError: 'glm4'",
            "KeyError: 'internvl_chat'",
        ),
        "This transformers has no such model: `glm` came with 4.46, `glm4` with 4.51; `chatglm` and `internvl_chat` "
        "exist only as code beside the weights.",
        "Upgrade transformers, or for the last two pass trust_remote_code=True with a version that the code fits.",
        NO_CODE,
    ),
    KnownError(
        "endoftext-key",
        ("KeyError: '<|endoftext|>'", "KeyError: '<sop>'", "KeyError: 'sop'", "KeyError: '[gMASK]'"),
        "The tokenizer looks a control token up among the ordinary ones. Either transformers is too old for GLM-4 "
        "(ChatGLM-6B's 4.27, for instance), or tokenizer_config.json and tokenization_chatglm.py are of different "
        "revisions.",
        "Use transformers 4.44.2, and download both files again.",
        NO_CODE,
    ),
    KnownError(
        "hf-layout-not-supported",
        (
            "GlmForCausalLM* not supported",
            "GlmForCausalLM* not yet supported",
            "Unsupported model*GlmForCausalLM",
            "glm isn't supported yet",
        ),
        "The same weights exist in two layouts, the original one and transformers' (`-hf`), and this program reads "
        "only the other.",
        "Take the original checkpoint (without -hf in its name) for such programs.",
        "`glm4 convert FOLDER NEW_FOLDER --to thudm` turns the -hf layout into the original one, exactly.",
    ),
    KnownError(
        "batch-encode-plus",
        ("has no attribute 'batch_encode_plus'",),
        "transformers 5 removed a method that the checkpoint's tokenization_chatglm.py calls.",
        "Use transformers 4.44.2.",
        NO_CODE,
        (*_OURS, "tokenization_"),
    ),
    KnownError(
        "none-has-no-shape",
        ("'NoneType' object has no attribute 'shape'",),
        "get_masks in modeling_chatglm.py expects the cache as a tuple of tensors. Newer transformers (seen with 4.57) "
        "pass a cache object whose entries are still empty.",
        "Use transformers 4.44.2 (to 4.48.3).",
        NO_CODE,
        (*_OURS, "get_masks", "past_key_values"),
    ),
    KnownError(
        "dynamic-cache",
        ("'DynamicCache' object is not subscriptable",),
        "The checkpoint's modeling code expects the cache as a tuple of tensors; transformers 5 passes an object.",
        "Use transformers 4.44.2 (to 4.48.3).",
        NO_CODE,
    ),
    KnownError(
        "glm4v-first-revision",
        (
            "local variable 'num_patches' referenced before assignment",
            "cannot access local variable 'num_patches'",
            "ValueError: 151339 is not in list",
            "151339 is not in list",
        ),
        "GLM-4V's modeling_chatglm.py of June 2024 cannot tell the prompt from a later token with today's "
        "transformers, and looks for the picture's marks in a single token.",
        "Download the checkpoint's *.py files again, and use transformers 4.44.2.",
        NO_CODE,
    ),
    KnownError(
        "glm4v-sdpa",
        ("does not support an attention implementation through torch.nn.functional.scaled_dot_product_attention",),
        "GLM-4V's modeling_chatglm.py of June 2024 does not state that it can use PyTorch's fused attention.",
        "Download the checkpoint's *.py files again, or pass attn_implementation='eager'.",
        NO_CODE,
    ),
    KnownError(
        "glm4v-batch-size",
        ("Expected input batch_size (*) to match target batch_size (*)",),
        "GLM-4V's code widens the labels by 1600 whatever the picture's size; with pictures that are not 1120 pixels "
        "wide the two lengths differ.",
        "Train with the 1120-pixel pictures that the tokenizer makes.",
        "",
        (*_OURS, "1609"),
    ),
    KnownError(
        "sp-tokenizer",
        (
            "'ChatGLMTokenizer' object has no attribute 'sp_tokenizer'",
            "'ChatGLMTokenizer' object has no attribute 'tokenizer'",
            "'ChatGLMTokenizer' object has no attribute 'vocab_size'",
            "ChatGLMTokenizer has no attribute vocab_size",
            "'property' object cannot be interpreted as an integer",
        ),
        "From 4.34 on, transformers asks a tokenizer for its vocabulary before the ChatGLM tokenizer has loaded it.",
        "Use transformers 4.33.3 (ChatGLM2 and ChatGLM3: download tokenization_chatglm.py again).",
        "glm4 reads ChatGLM-6B without that code: `glm4 chat --model FOLDER`.",
    ),
    KnownError(
        "no-generate",
        (
            "'ChatGLMForConditionalGeneration' object has no attribute 'generate'",
            "'ChatGLMModel' object has no attribute 'generate'",
        ),
        "From 4.50 on, a model has generate() only if its code asks for it, and this checkpoint's code is older.",
        "Use transformers 4.44.2 for GLM-4, 4.33.3 for ChatGLM-6B.",
        NO_CODE,
    ),
    KnownError(
        "internvl-empty-architecture",
        ("Unsupported architecture: ''", "ValueError: Unsupported architecture:"),
        "InternVL's configuration code fails when transformers builds an empty one to compare with (seen with 4.57).",
        "Use transformers 4.37.2, which the model was published for.",
        ALONE,
        ("internvl", "Unsupported architecture: ''"),
    ),
    KnownError(
        "module-name-with-dots",
        ("No module named 'transformers_modules.*'",),
        "transformers makes a module name of the folder's name, and a dot or another odd character in it breaks that; "
        "or a relative path was taken for a hub id.",
        "Rename the folder without dots, and pass its absolute path.",
        NO_CODE,
    ),
    KnownError(
        "chat-template-not-set",
        ("Cannot use chat template functions because tokenizer.chat_template is not set",),
        "tokenizer_config.json has no chat_template: GLM-4V and the base model come without one, their code builds the "
        "prompt.",
        "Load the tokenizer with trust_remote_code=True, or give the program a template.",
        "glm4 knows the prompts of every model of the family.",
    ),
)  # fmt: skip
