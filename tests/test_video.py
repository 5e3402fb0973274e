"""Frames of a video: the right ones, exactly, with little decoding, and nothing that a stranger's file could abuse."""

from __future__ import annotations

import functools
import io
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glm4 import video
from glm4.errors import InputError
from glm4.messages import ImagePart, Message, TextPart
from glm4.video import frame_indices, read_frames, video_message

av = pytest.importorskip("av", reason="NOT TESTED: videos need PyAV, pip install av")
STEP = 4  # grey levels between two frames


@functools.cache
def clip(
    n: int = 60,
    container: str = "mp4",
    codec: str = "mpeg4",
    gop: int = 12,
    size: tuple[int, int] = (64, 48),
    fps: int = 10,
) -> bytes:
    """A video whose frame i is grey level STEP * i."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.gop_size = gop
        stream.bit_rate = 4_000_000
        for i in range(n):
            grey = np.full((size[1], size[0], 3), STEP * i % 256, np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            frame.pts = i
            for packet in stream.encode(frame):
                out.mux(packet)
        for packet in stream.encode():
            out.mux(packet)
    return file.getvalue()


def shown(frames: list[Any]) -> list[int]:
    """Which frame of `clip` each is."""
    return [round(float(np.asarray(frame).mean()) / STEP) for frame in frames]


def as_the_example_has_it(n_all: int, n: int, fps: float = 0.0, bound: tuple[float, float] | None = None) -> list[int]:
    """InternVL's own get_index, with numpy as it is there."""
    start, end = bound or (-100000, 100000)
    first = max(0, round(start * fps)) if bound else 0
    last = min(round(end * fps), n_all - 1) if bound else n_all - 1
    step = float(last - first) / n
    return [int(first + (step / 2) + np.round(step * i)) for i in range(n)]


@pytest.mark.parametrize("n_all", [1, 2, 7, 60, 61, 999])
@pytest.mark.parametrize("n", [1, 2, 8, 32])
def test_indices_are_the_originals(n_all: int, n: int) -> None:
    assert frame_indices(n_all, n) == as_the_example_has_it(n_all, n)
    assert all(0 <= i < n_all for i in frame_indices(n_all, n))
    if n_all > 20:
        bound = (0.3, 1.7)
        assert frame_indices(n_all, n, fps=10, bound_s=bound) == as_the_example_has_it(n_all, n, 10, bound)


@pytest.mark.parametrize(
    ("container", "codec"),
    [("mp4", "mpeg4"), ("matroska", "mpeg4"), ("avi", "mpeg4"), ("mpegts", "mpeg2video"), ("mov", "mjpeg")],
)
def test_the_right_frames(container: str, codec: str) -> None:
    frames = read_frames(clip(container=container, codec=codec))
    assert shown(frames) == frame_indices(60, 8) == [3, 10, 18, 25, 33, 40, 47, 55]
    assert {(frame.size, frame.mode) for frame in frames} == {((64, 48), "RGB")}


def test_reordered_frames() -> None:
    """H.264 stores some frames before those that are shown earlier."""
    if "libx264" not in av.codecs_available:
        pytest.skip("NOT TESTED: this build of PyAV cannot write H.264")
    for container in ("mp4", "mpegts"):
        assert shown(read_frames(clip(container=container, codec="libx264"), 10)) == frame_indices(60, 10)


@pytest.mark.parametrize("n", [1, 3, 32])
def test_any_number(tmp_path: Path, n: int) -> None:
    """From a path; more than the video has gives some several times."""
    (tmp_path / "clip.mp4").write_bytes(clip(20))
    for path in (tmp_path / "clip.mp4", str(tmp_path / "clip.mp4")):
        assert shown(read_frames(path, n)) == frame_indices(20, n)


def test_part_of_a_video() -> None:
    frames = read_frames(clip(), 4, bound_s=(2.0, 4.0))
    assert shown(frames) == frame_indices(60, 4, fps=10, bound_s=(2.0, 4.0)) == [22, 27, 32, 37]


def test_one_frame() -> None:
    assert shown(read_frames(clip(1), 4)) == [0, 0, 0, 0]


def decoded_frames(monkeypatch: pytest.MonkeyPatch, data: bytes, **kwargs: Any) -> int:
    """How many frames are decoded."""
    count = itertools.count()
    advance = video._Decoder._advance

    def counting(self: Any, until: int) -> None:
        frames: Iterator[Any] = self._decoding
        self._decoding = (frame for frame in frames if next(count) >= 0)
        advance(self, until)
        self._decoding = frames

    monkeypatch.setattr(video._Decoder, "_advance", counting)
    read_frames(data, **kwargs)
    return next(count)


def test_no_more_is_decoded_than_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the key frame in front of each wanted one: 10 of 600 frames, not 600."""
    assert decoded_frames(monkeypatch, clip(600, gop=10), n_frames=3) <= 3 * 11
    assert decoded_frames(monkeypatch, clip(60, gop=60), n_frames=8) <= 60


def test_a_message_of_frames() -> None:
    message = video_message(clip(), "What happens?", 3)
    assert isinstance(message, Message)
    assert shown(list(message.pictures)) == frame_indices(60, 3)
    assert isinstance(message.content, tuple)
    assert [type(part) for part in message.content] == [ImagePart] * 3 + [TextPart]
    assert message.text == "Frame1: <image>\nFrame2: <image>\nFrame3: <image>\nWhat happens?"


# Bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a video" * 100,
        b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n/etc/passwd\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile '/etc/passwd'\n",
        b"<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'></MPD>",
        b"\x89PNG\r\n\x1a\n" + b"\0" * 100,
    ],
    ids=["empty", "text", "playlist", "concat script", "dash", "png"],
)
def test_what_is_no_video(data: bytes) -> None:
    with pytest.raises(InputError, match="the video cannot be read"):
        read_frames(data)


def test_playlists_open_nothing(tmp_path: Path) -> None:
    """A playlist beside a real video, which it names, in the ways that FFmpeg knows."""
    (tmp_path / "clip.ts").write_bytes(clip(container="mpegts", codec="mpeg2video"))
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\nclip.ts\n#EXT-X-ENDLIST\n")
    (tmp_path / "list.ffconcat").write_text("ffconcat version 1.0\nfile clip.ts\n")
    for name in ("list.m3u8", "list.ffconcat"):
        with pytest.raises(InputError, match="the video cannot be read"):
            read_frames(tmp_path / name)


@pytest.mark.parametrize("container", ["mp4", "matroska", "avi", "mpegts"])
def test_truncated_and_damaged(container: str) -> None:
    """An InputError or the frames that are there, never anything else, and soon."""
    data = clip(container=container, codec="mpeg2video" if container == "mpegts" else "mpeg4")
    generator = np.random.default_rng(0)
    variants = [data[: len(data) * i // 7] for i in range(1, 7)]
    for _ in range(10):
        noisy = np.frombuffer(data, np.uint8).copy()
        noisy[generator.integers(0, len(noisy), 40)] = generator.integers(0, 256, 40)
        variants.append(noisy.tobytes())
    start = time.monotonic()
    outcomes = set()
    for variant in variants:
        try:
            outcomes.add(len(read_frames(variant)))
        except InputError:
            outcomes.add(0)
    assert outcomes <= {0, 8}
    assert time.monotonic() - start < 60
    assert shown(read_frames(data)) == frame_indices(60, 8)


def test_sound_alone() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        stream = out.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts = 8000, 0
        for packet in [*stream.encode(frame), *stream.encode()]:
            out.mux(packet)
    with pytest.raises(InputError, match=r"no video, only sound|cannot be read"):
        read_frames(file.getvalue())


@pytest.mark.parametrize(
    ("limit", "value", "says"),
    [
        ("MAX_PIXELS", 1000, "64 x 48 pixels, more than the 1,000 allowed"),
        ("MAX_FRAMES", 59, "more than 59 frames"),
        ("MAX_KEPT_BYTES", 64 * 48 * 3 * 7, "8 frames of 64 x 48 pixels take over"),
        ("MAX_DECODED_PIXELS", 64 * 48 * 7, "to reach the wanted frames, .* frames of 64 x 48 pixels would have"),
    ],
)
def test_limits(monkeypatch: pytest.MonkeyPatch, limit: str, value: int, says: str) -> None:
    """Each is checked before a frame is decoded."""
    monkeypatch.setattr(video, limit, value)
    monkeypatch.setattr(video._Decoder, "_begin", lambda *_: pytest.fail("decoded"))
    with pytest.raises(InputError, match=says):
        read_frames(clip())


def test_large_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "MAX_BYTES", 100)
    (tmp_path / "clip.mp4").write_bytes(clip())
    with pytest.raises(InputError, match="more than the 100 allowed"):
        read_frames(tmp_path / "clip.mp4")


def test_huge_frames_are_refused_by_the_decoder() -> None:
    """A header that promises more pixels than are allowed: FFmpeg itself is told the limit."""
    data = bytearray(clip(2, container="avi", codec="mjpeg"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = (60_000).to_bytes(2, "big") * 2
    with pytest.raises(InputError):
        read_frames(bytes(data), 2)


@pytest.mark.parametrize("n", [0, -1, 1.5, True, None, "8", 10**9])
def test_bad_numbers_of_frames(n: Any) -> None:
    with pytest.raises(InputError, match="n_frames is"):
        read_frames(clip(), n)


@pytest.mark.parametrize("bound", [(2, 1), (-1, 2), (1, 1), (float("nan"), 1), (0, float("inf")), (1,), "ab", 3])
def test_bad_bounds(bound: Any) -> None:
    with pytest.raises(InputError, match="bound_s is"):
        read_frames(clip(), bound_s=bound)


def test_a_bound_behind_the_end() -> None:
    with pytest.raises(InputError, match=r"ends after 6\.00 seconds"):
        read_frames(clip(), bound_s=(100, 200))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("http://127.0.0.1:9/clip.mp4", "is no file; addresses are never fetched"),
        ("concat:a.mp4|b.mp4", "is no file"),
        ("missing.mp4", "is no file"),
        (3, "the video is int; pass a path"),
        (os.devnull, "is no file"),
    ],
)
def test_bad_sources(source: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_frames(source)


def test_a_path_in_bytes(tmp_path: Path) -> None:
    """As os.scandir gives it where it was given bytes."""
    (tmp_path / "folder").mkdir()
    with os.scandir(os.fsencode(tmp_path)) as entries, pytest.raises(InputError, match="is no file"):
        read_frames(next(entries))  # type: ignore[arg-type]


def test_without_pyav(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(InputError, match=r'pip install "glm4\[video\]"'):
        read_frames(clip())
