"""Frames out of a video, for a model that sees pictures: InternVL-Chat-V1-1 takes a video as some of its frames.

    from glm4.video import video_message
    llm.chat([video_message("cat.mp4", "What does the cat do?")])

Needs PyAV (`pip install "glm4[video]"`), which brings FFmpeg. What comes from strangers is read with care: only from
files and bytes, never from addresses that a file names; in `FORMATS` and `CODECS` only; with limits on the size of a
frame, the number of frames, and what must be decoded to reach the wanted ones, all checked before decoding.
"""

from __future__ import annotations

import io
import math
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, Any, TypeAlias

from .errors import InputError
from .messages import ImagePart, Message, TextPart

Video: TypeAlias = str | os.PathLike[str] | bytes
"""A path, or a file's bytes."""

N_FRAMES = 8
"""As in the model card. InternVL's 4,096 tokens hold up to 15 frames of 256."""

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,flv,ogg,asf,gif"
CODECS = (
    "h264,hevc,mpeg4,mpeg1video,mpeg2video,vp8,vp9,libvpx,libvpx-vp9,av1,libdav1d,mjpeg,theora,msmpeg4,wmv1,wmv2,flv,"
    "h263,gif"
)
MAX_BYTES = 4 * 1024**3
MAX_FRAMES = 1_000_000  # of the file: nine hours
MAX_PIXELS = 8192 * 4320  # of one frame
MOST_WANTED = 1024  # frames returned
MAX_KEPT_BYTES = 1024**3  # of the frames returned
MAX_DECODED_PIXELS = 2**35  # 16,000 frames of full HD

_OPTIONS = {
    "format_whitelist": FORMATS,
    "codec_whitelist": CODECS,
    "protocol_whitelist": "",  # a playlist must not open other files
    "max_pixels": str(MAX_PIXELS),
}


@dataclass(frozen=True)
class _Frames:
    """A video's frames as its packets announce them, in the order of showing."""

    times: list[int]
    key_times: list[int]  # of those that can be decoded by themselves


def read_frames(video: Video, n_frames: int = N_FRAMES, *, bound_s: tuple[float, float] | None = None) -> list[Any]:
    """Frames spread evenly over a video, the same that InternVL's own example takes.

    Args:
        video: a path or a file's bytes.
        n_frames: how many. A video of fewer gives some of them several times.
        bound_s: from which second to which; None for all of it.

    Returns:
        PIL images, RGB, upright, of the video's size.

    Raises:
        InputError: not a video, damaged, too large, or arguments out of range; or PyAV is not installed.
    """
    if not isinstance(n_frames, int) or isinstance(n_frames, bool) or not 1 <= n_frames <= MOST_WANTED:
        raise InputError(f"n_frames is {n_frames!r}; it must be a whole number from 1 to {MOST_WANTED}")
    try:
        import av
    except ImportError as error:
        raise InputError('to read videos, install PyAV: pip install "glm4[video]"') from error
    with _opened(video) as file:
        try:
            return _read(av, file, n_frames, bound_s)
        except InputError:
            raise
        except Exception as error:  # FFmpeg's own, and what PyAV raises where a damaged file surprises it
            cause = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise InputError(
                f"the video cannot be read: {cause}; it is damaged, or not in a format that is read here ({FORMATS})"
            ) from error


def video_message(
    video: Video, question: str, n_frames: int = N_FRAMES, *, bound_s: tuple[float, float] | None = None
) -> Message:
    """A user's message that shows a video's frames and asks about them, as InternVL's own example writes it.

    Raises InputError as `read_frames` does.
    """
    frames = read_frames(video, n_frames, bound_s=bound_s)
    places = "".join(f"Frame{number}: <image>\n" for number in range(1, len(frames) + 1))
    return Message("user", (*map(ImagePart, frames), TextPart(places + question)))


def frame_indices(
    n_all: int, n_wanted: int, *, fps: float = 0.0, bound_s: tuple[float, float] | None = None
) -> list[int]:
    """Which frames of `n_all` to take: the original's formula, rounding to even included.

    Raises InputError where `bound_s` is not two rising times, or lies behind the video's end.
    """
    first, last = 0, n_all - 1
    if bound_s is not None:
        start, end = _bound(bound_s)
        first, last = max(0, round(start * fps)), min(round(end * fps), last)
        if first > last:
            raise InputError(f"bound_s is {bound_s!r}, but the video ends after {n_all / fps:.2f} seconds")
    step = (last - first) / n_wanted
    return [min(last, int(first + step / 2 + round(step * i))) for i in range(n_wanted)]


def _bound(bound_s: Sequence[float]) -> tuple[float, float]:
    try:
        start, end = (float(second) for second in bound_s)
    except (TypeError, ValueError):
        start = end = math.nan
    if not (0 <= start < end < 1e9):
        raise InputError(f"bound_s is {bound_s!r}; pass two numbers of seconds, (from, to), the second the larger")
    return start, end


def _opened(video: Video) -> IO[bytes]:
    """The file. FFmpeg is only given what is open: of names it would make addresses and devices, too."""
    if isinstance(video, (bytes, bytearray, memoryview)):
        return io.BytesIO(video)
    if not isinstance(video, (str, os.PathLike)):
        raise InputError(f"the video is {type(video).__name__}; pass a path, or a file's bytes")
    if not os.path.isfile(video):
        hint = "; addresses are never fetched, download it" if "://" in os.fsdecode(video) else ""
        raise InputError(f"the video {os.fspath(video)!r} is no file{hint}")
    try:
        file = open(video, "rb")  # noqa: SIM115 (the caller closes it)
    except OSError as error:
        raise InputError(f"the video {os.fspath(video)!r} cannot be opened: {error.strerror}") from error
    size = os.fstat(file.fileno()).st_size
    if size > MAX_BYTES:
        file.close()
        raise InputError(f"the video has {size:,} bytes, more than the {MAX_BYTES:,} allowed; cut it")
    return file


def _read(av: Any, file: IO[bytes], n_frames: int, bound_s: tuple[float, float] | None) -> list[Any]:
    with ExitStack() as stack:

        def opened() -> Any:
            file.seek(0)
            return stack.enter_context(av.open(file, options=_OPTIONS))

        container = opened()
        if not container.streams.video:
            raise InputError("the file holds no video, only sound or text")
        stream = container.streams.video[0]
        frames = _frames(container, stream)
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        if bound_s is not None and fps <= 0:
            raise InputError("bound_s is given, but the video does not say how many frames a second has; leave it out")
        wanted = [frames.times[i] for i in frame_indices(len(frames.times), n_frames, fps=fps, bound_s=bound_s)]
        _check_cost(stream, frames, wanted)
        decoder = _Decoder(container, frames, opened)
        shown = {time: decoder.picture(time) for time in sorted(set(wanted))}
        return [shown[time] for time in wanted]


def _frames(container: Any, stream: Any) -> _Frames:
    """Read the packets, decoding none."""
    times, key_times = [], []
    for packet in container.demux(stream):
        time = packet.dts if packet.pts is None else packet.pts
        if time is None or packet.is_discard:  # the last, empty packet; frames that an edit list cuts away
            continue
        times.append(time)
        if packet.is_keyframe:
            key_times.append(time)
        if len(times) > MAX_FRAMES:
            raise InputError(f"the video has more than {MAX_FRAMES:,} frames, the most allowed; cut it")
    if not times:
        raise InputError("the video holds no frames")
    return _Frames(sorted(times), sorted(key_times))


def _check_cost(stream: Any, frames: _Frames, wanted: Sequence[int]) -> None:
    """Refuse what would take too much time or memory."""
    pixels = stream.codec_context.width * stream.codec_context.height
    size = f"{stream.codec_context.width} x {stream.codec_context.height}"
    if not 0 < pixels <= MAX_PIXELS:
        raise InputError(f"the video's frames have {size} pixels, more than the {MAX_PIXELS:,} allowed, or none")
    if len(set(wanted)) * pixels * 3 > MAX_KEPT_BYTES:
        raise InputError(
            f"{len(set(wanted))} frames of {size} pixels take over {MAX_KEPT_BYTES:,} bytes; pass a smaller n_frames"
        )
    n_decoded, position = 0, -1
    for time in sorted(set(wanted)):
        index = bisect_right(frames.times, time)
        start = bisect_right(frames.times, _key_before(frames, time)) - 1
        n_decoded += index - max(start, position)
        position = index
    if n_decoded * pixels > MAX_DECODED_PIXELS:
        raise InputError(
            f"to reach the wanted frames, {n_decoded} frames of {size} pixels would have to be decoded, as the video's "
            "key frames are far apart; cut it, or encode it anew"
        )


def _key_before(frames: _Frames, time: int) -> int:
    """The last frame up to a time that can be decoded by itself; the first frame of all where none can."""
    index = bisect_right(frames.key_times, time)
    return frames.key_times[index - 1] if index else frames.times[0]


class _Decoder:
    """Reaches frames in rising order, skipping from key frame to key frame where that saves decoding."""

    def __init__(self, container: Any, frames: _Frames, opened: Callable[[], Any]) -> None:
        """opened: gives the container anew, at its start."""
        self._container, self._frames, self._opened = container, frames, opened
        self._decoding: Iterator[Any] = iter(())
        self._frame: Any = None  # the last that was decoded
        self._decoded_pixels = 0

    def picture(self, time: int) -> Any:
        """The frame of a time, upright; or the nearest before it that can be decoded, where the file is damaged."""
        key_time = _key_before(self._frames, time)
        if self._frame is None or _time(self._frame) < key_time:
            stream = self._container.streams.video[0]
            self._container.seek(key_time, stream=stream)
            self._begin(self._container, key_time)
            if self._frame is None or _time(self._frame) > time:
                # A file without an index, in which FFmpeg seeks by guessing. Once from the start is always right.
                self._begin(self._opened(), self._frames.times[0])
        self._advance(time)
        if self._frame is None:
            raise InputError("the video's frames cannot be decoded; it is damaged, save or send it again")
        image, turned = self._frame.to_image(), self._frame.rotation
        return image.rotate(turned, expand=True) if turned else image

    def _begin(self, container: Any, time: int) -> None:
        self._container, self._frame = container, None
        self._decoding = container.decode(container.streams.video[0])
        self._advance(time)

    def _advance(self, time: int) -> None:
        """Decode up to a time, if it has not been reached."""
        while self._frame is None or _time(self._frame) < time:
            frame = next(self._decoding, None)
            if frame is None:
                return
            self._decoded_pixels += frame.width * frame.height
            if self._decoded_pixels > 2 * MAX_DECODED_PIXELS or frame.width * frame.height > MAX_PIXELS:
                raise InputError("the video takes more decoding than its packets announce; encode it anew")
            self._frame = frame


def _time(frame: Any) -> int:
    """When a frame is shown."""
    time = frame.dts if frame.pts is None else frame.pts
    return 0 if time is None else int(time)
