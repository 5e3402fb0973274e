"""The rest of the known messages: damaged files, too little memory, missing packages. As known_errors.py."""

from __future__ import annotations

from .known_errors import TRANSFORMERS_ERRORS, KnownError

LOOK = "`glm4 doctor FOLDER` names the files."

OTHER_ERRORS = (
    KnownError(
        "pointer-instead-of-file",
        (
            "invalid load key, 'v'",
            "Error while deserializing header: HeaderTooLarge",
            "Error while deserializing header: header too large",
            "Internal: src/sentencepiece_processor.cc*model_proto->ParseFromArray",
            "Internal: could not parse ModelProto from",
            "Internal: src/sentencepiece_processor.cc(",
            "version https://git-lfs.github.com/spec/v1",
        ),
        "A file is not what its name says. Most often the repository was cloned without git-lfs, and the weights or "
        "tokenizer.model are text files of about 130 bytes that only point to them.",
        "Run `git lfs install` and `git lfs pull` in the folder, or download it with `hf download`.",
        LOOK,
    ),
    KnownError(
        "damaged-file",
        (
            "Error while deserializing header: MetadataIncompleteBuffer",
            "Error while deserializing header: incomplete metadata",
            "Error while deserializing header: InvalidHeaderDeserialization",
            "Error while deserializing header: invalid JSON in header",
            "PytorchStreamReader failed",
            "invalid load key, '<'",
            "unexpected EOF, expected * more bytes. The file might be corrupted",
        ),
        "A file of the weights is cut off or is not weights at all (a web page saved in its place, for instance): the "
        "download broke off or the disk was full.",
        "Delete that file and download it again.",
        LOOK,
    ),
    KnownError(
        "unsafe-pickle",
        ("Weights only load failed", "WeightsUnpickler error"),
        "A .bin file holds Python objects besides tensors, and reading those can run code. PyTorch refuses that unless "
        "told otherwise.",
        "Get the checkpoint as safetensors. Allow the rest only for a file that you made yourself.",
        "glm4 refuses such files too.",
    ),
    KnownError(
        "torch-load-vulnerable",
        ("Due to a serious vulnerability issue in `torch.load`", "require users to upgrade torch to at least v2.6"),
        "Reading .bin files is unsafe with this old PyTorch, so transformers refuses to.",
        "Upgrade PyTorch, or get the checkpoint as safetensors.",
        "glm4 needs PyTorch 2.10 or later, and reads .bin files without running anything in them.",
    ),
    KnownError(
        "devices-differ",
        ("Expected all tensors to be on the same device",),
        "Parts of one computation lie on different GPUs. With GLM-4V's own code it is the picture's features being put "
        "between the words' embeddings, or the vision tower itself being split.",
        "Use one GPU if the model fits; or pin transformer.vision and transformer.embedding to the same one in the "
        "device_map.",
        'glm4 moves the features to where they belong: load_model(FOLDER, device_map="auto").',
    ),
    KnownError(
        "out-of-memory",
        (
            "CUDA out of memory",
            "torch.OutOfMemoryError",
            "torch.cuda.OutOfMemoryError",
            "DefaultCPUAllocator: can't allocate memory",
            "DefaultCPUAllocator: not enough memory",
            "MPS backend out of memory",
            "not enough memory for the weights of",
            "not enough memory for a prompt of",
            "os error 1455",
            "WinError 1455",
            "The paging file is too small for this operation to complete",
            "显存不足",
            "爆显存",
            "内存不足",
            "页面文件太小",
        ),
        "The weights, the cache of the conversation or the work on a long prompt need more memory than is free.",
        "Close other programs on the device, shorten the context, take a smaller dtype, or quantize.",
        "`glm4 doctor FOLDER` shows what each dtype and context needs, and what is free.",
    ),
    KnownError(
        "not-a-number",
        (
            "probability tensor contains either `inf`, `nan` or element < 0",
            "probability tensor contains either inf, nan or element < 0",
            "logits that are not a number",
        ),
        "The numbers overflowed: float16 reaches only 65,504, and some sums inside the model are larger.",
        "Use bfloat16, or float32 on hardware without it.",
        "glm4 loads in bfloat16 unless the checkpoint says otherwise; --dtype float32 is always safe.",
    ),
    KnownError(
        "dtypes-differ",
        (
            "Input type (*) and weight type (*) should be the same",
            "Input type (*) and bias type (*) should be the same",
            "expected mat1 and mat2 to have the same dtype",
            "expected m1 and m2 to have the same dtype",
        ),
        "The picture is in another dtype than the vision tower: GLM-4V's code makes pictures bfloat16, while the "
        "weights were loaded in float16 or quantized.",
        "Convert the pictures to the dtype of the vision tower before calling the model.",
        "glm4 converts them itself.",
        ("vision", "visual", "conv", "glm", "images", "pixel"),
    ),
    KnownError(
        "no-cuda-build",
        ("Torch not compiled with CUDA enabled",),
        "The code asks for a GPU, and this PyTorch is the build without CUDA (ChatGLM-6B's quantize() always asks for "
        "one).",
        "Install a CUDA build of PyTorch as pytorch.org describes, or run on the CPU.",
        "glm4 runs, and quantizes, on the CPU too: pass --device cpu.",
    ),
    KnownError(
        "quantization-kernels",
        (
            "Failed to load cpm_kernels",
            "No module named 'cpm_kernels'",
            "Library cudart is not initialized",
            "Library cublasLt is not initialized",
            "Library nvrtc is not initialized",
            "Compile default cpu kernel failed",
            "Compile parallel cpu kernel failed",
            "Load parallel cpu kernel failed",
            "quantization_kernels_parallel.c",
        ),
        "ChatGLM-6B's int4 and int8 checkpoints compile or load kernels of their own, for which they need gcc, or CUDA "
        "libraries and the package cpm_kernels.",
        "Install gcc (CPU) or cpm_kernels and the CUDA toolkit (GPU).",
        "glm4 reads these checkpoints with PyTorch alone.",
    ),
    KnownError(
        "torchvision-nms",
        ("operator torchvision::nms does not exist",),
        "torchvision belongs to another build of PyTorch than the one that is installed (CPU and CUDA builds mixed, or "
        "different versions). GLM-4V's tokenizer imports it, and so does transformers.",
        "Install torch and torchvision again, together and from the same index.",
        "glm4 does not need torchvision.",
    ),
    KnownError(
        "protobuf-missing",
        (
            "requires the protobuf library but it was not found",
            "requires the SentencePiece library but it was not found",
            "No module named 'google.protobuf'",
        ),
        "transformers converts a tokenizer.model through a package that is not installed.",
        "Run `pip install protobuf sentencepiece`.",
        "glm4 does not need protobuf.",
    ),
    KnownError(
        "tiktoken-missing",
        (
            "packages that were not found in your environment: tiktoken",
            "No module named 'tiktoken'",
            "packages that were not found in your environment: sentencepiece",
            "No module named 'sentencepiece'",
        ),
        "The tokenizer needs a package that is not installed: GLM-4's tiktoken, ChatGLM-6B's and InternVL's "
        "sentencepiece.",
        "Run `pip install tiktoken sentencepiece`.",
    ),
)  # fmt: skip

KNOWN_ERRORS = TRANSFORMERS_ERRORS + OTHER_ERRORS
__all__ = ["KNOWN_ERRORS", "KnownError"]
