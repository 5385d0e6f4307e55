"""Audio that comes from elsewhere, decoded as it arrives, whatever form it has.

It knows no server and no engine: bytes and their media type go in, blocks come out.
"""

import asyncio
import io
import struct
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Protocol

import av
import numpy as np

from service.audio import SAMPLE_RATE, Converter, Samples, read_audio, silence
from service.errors import AudioError, EngineError

__all__ = [
    "MAX_BODY_BYTES",
    "Incoming",
    "blocks_of",
    "longest_seconds",
    "media_type_of",
    "most_bytes",
]

MAX_BODY_BYTES = 64 * 2**20
"""Of one answer, whatever its text: 23 minutes of 16-bit mono at 24 kHz."""

LEAST_BLOCK = SAMPLE_RATE // 25
"""Samples of a block, but for the last: 40 ms. A server that drips a byte a second gives no block,
so that the stall limit between blocks finds it."""

SNIFFED_BYTES = 32
MAX_WAV_HEADER_BYTES = 65_536
BYTES_A_SECOND = 48_000 * 2 * 4  # 32-bit stereo at 48 kHz: more than any server sends
ID3_HEADER_BYTES = 10
STREAMED_SIZES = (0, 0x7FFF_FFFF - 36, 0x7FFF_FFFF, 0x8000_0000)
"""What a WAV that was written to a pipe claims to hold, besides all that is near 4 GiB."""

WAV_FORMS = {(1, 16): ("<i2", 2**15), (1, 32): ("<i4", 2**31), (3, 32): ("<f4", 1)}
"""Format tag and bits → form of a sample, and full scale. Any other is left to FFmpeg."""

AUDIO_TYPES = ("", "application/octet-stream", "binary/octet-stream", "application/ogg")
"""Media types of audio, besides `audio/*`; servers that do not know say one of these."""


def media_type_of(content_type: str) -> str:
    """Give a `Content-Type` without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def longest_seconds(text: str) -> float:
    """Give how long the speech of a text can be at most: 0.5 s a character, and 20 s.

    English prose takes 0.07 s a character; digits and letters that are spelled up to 0.4 s.
    """
    return 20 + 0.5 * len(text)


def most_bytes(longest: float) -> int:
    """Give how many bytes an answer of at most `longest` seconds has, in any form."""
    return min(MAX_BODY_BYTES, round(longest * BYTES_A_SECOND))


class _Form(Protocol):
    """One form of audio: bytes in, samples [samples] at 24 kHz out."""

    def feed(self, data: bytes) -> Samples:
        """Take bytes; give what is ready."""

    def finish(self) -> Samples:
        """Give the rest. Raises AudioError where the audio is not whole."""


class Incoming:
    """One answer that should be audio.

    + media_type: what the server calls it
    + longest: seconds of audio; more of it is refused
    + raw_rate: Hz of 16-bit little-endian mono samples without a header, where such were asked for;
      None: only forms that say what they are

    Raises EngineError of the class wrong_address when the media type or the first bytes are not
    audio, AudioError when the audio is empty, broken, cut short, too long or not finite.
    """

    def __init__(self, media_type: str, *, longest: float, raw_rate: int | None = None) -> None:
        if media_type not in AUDIO_TYPES and not media_type.startswith("audio/"):
            raise _not_audio(f"the answer is {media_type[:60]!r}")
        self._media_type = media_type
        self._raw_rate = raw_rate
        self._bytes_left = most_bytes(longest)
        self._longest = longest
        self._samples_left = round(longest * SAMPLE_RATE)
        self._head = b""
        self._form: _Form | None = None
        self._heard = False

    def feed(self, data: bytes) -> Samples:
        """Take bytes as they come; give what can be decoded of them."""
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            raise _too_long(self._longest)
        if self._form is None:
            self._head += data
            if len(self._head) < SNIFFED_BYTES:
                return silence(0)
            data, self._head = self._head, b""
            self._form = self._form_of(data)
        return self._checked(self._form.feed(data))

    def finish(self) -> Samples:
        """Give the rest, and see that it was whole."""
        rest = silence(0)
        if self._form is None:
            if not self._head:
                raise AudioError("the answer is empty", "empty")
            self._form = self._form_of(self._head)
            rest = self._checked(self._form.feed(self._head))
        rest = np.concatenate([rest, self._checked(self._form.finish())])
        if not self._heard:
            raise AudioError("the answer holds no samples", "empty")
        return rest

    def _form_of(self, head: bytes) -> _Form:
        if head.startswith(b"RIFF"):
            return _Wav(self._longest)
        raw = self._raw_rate is not None and self._media_type not in ("audio/mpeg", "audio/mp3")
        if _is_text(head):
            raise _not_audio("the answer is text under the name of audio")
        if raw and not head.startswith((b"ID3", b"fLaC", b"OggS")):
            return _Raw(self._raw_rate or SAMPLE_RATE)
        if head.startswith(b"ID3") or _is_mp3_frame(head):
            return _Mp3()
        return _Whole(self._longest)

    def _checked(self, block: Samples) -> Samples:
        if not np.isfinite(block).all():
            raise AudioError("a block with NaN or infinite samples", "not_finite")
        self._heard = self._heard or block.size > 0
        self._samples_left -= block.size
        if self._samples_left < 0:
            raise _too_long(self._longest)
        return block


async def blocks_of(pieces: AsyncIterator[bytes], incoming: Incoming) -> AsyncGenerator[Samples]:
    """Yield blocks [samples] of an answer's bytes as they come, the last one of any length."""
    held: list[Samples] = []
    async for piece in pieces:
        held.append(incoming.feed(piece))
        if sum(block.size for block in held) >= LEAST_BLOCK:
            yield np.concatenate(held)
            held.clear()
    # What could only be decoded as a whole takes its time: not on the event loop.
    held.append(await asyncio.to_thread(incoming.finish))
    last = np.concatenate(held)
    if last.size:
        yield last


class _Raw:
    """16-bit little-endian mono samples without a header."""

    def __init__(self, rate: int) -> None:
        self._odd = b""
        self._converter = Converter(rate, SAMPLE_RATE)

    def feed(self, data: bytes) -> Samples:
        data = self._odd + data
        whole = len(data) & ~1
        self._odd = data[whole:]
        samples = np.frombuffer(data[:whole], dtype="<i2").astype(np.float32)
        return self._converter.convert(samples / np.float32(2**15))

    def finish(self) -> Samples:
        if self._odd:
            raise AudioError("the answer ends within a sample", "truncated")
        return self._converter.flush()


class _Wav:
    """RIFF WAVE, streamed or not: its samples are given while they come."""

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._held = b""
        self._data: _WavData | _Whole | None = None

    def feed(self, data: bytes) -> Samples:
        if self._data is not None:
            return self._data.feed(data)
        self._held += data
        self._data = self._read_header()
        if self._data is None:
            if len(self._held) > MAX_WAV_HEADER_BYTES:
                raise AudioError("a WAV without samples", "unreadable")
            return silence(0)
        if isinstance(self._data, _Whole):
            return self._data.feed(self._held)
        return self._data.feed(self._held[self._data.begins_at :])

    def finish(self) -> Samples:
        if self._data is None:
            raise AudioError("a WAV that ends within its header", "truncated")
        return self._data.finish()

    def _read_header(self) -> "_WavData | _Whole | None":
        """Read chunks up to the samples; None when more bytes are needed."""
        at, form = 12, b""
        while len(self._held) >= at + 8:
            name, size = struct.unpack_from("<4sI", self._held, at)
            at += 8
            if name == b"data":
                return self._open(form, at, size)
            if name == b"fmt " and len(self._held) >= at + size:
                form = self._held[at : at + size]
            at += size + size % 2
        return None

    def _open(self, form: bytes, at: int, size: int) -> "_WavData | _Whole":
        if len(form) < 16:
            raise AudioError("a WAV without a form", "unreadable")
        tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", form)
        if tag == 0xFFFE and len(form) >= 26:
            tag = struct.unpack_from("<H", form, 24)[0]
        if not (1 <= channels <= 8 and 8_000 <= rate <= 192_000):
            raise AudioError(f"a WAV of {channels} channels at {rate} Hz", "unreadable")
        if (tag, bits) not in WAV_FORMS:
            return _Whole(self._longest)
        return _WavData(at, size, channels, rate, *WAV_FORMS[tag, bits])


class _WavData:
    def __init__(
        self, begins_at: int, size: int, channels: int, rate: int, form: str, full_scale: int
    ) -> None:
        self.begins_at = begins_at
        streamed = size in STREAMED_SIZES or size >= 0xFFFF_0000
        self._left = None if streamed else size
        self._channels = channels
        self._type = np.dtype(form)
        self._full_scale = np.float32(full_scale)
        self._odd = b""
        self._converter = Converter(rate, SAMPLE_RATE)

    def feed(self, data: bytes) -> Samples:
        data = data[: self._left]
        if self._left is not None:
            self._left -= len(data)
        data = self._odd + data
        frame = self._type.itemsize * self._channels
        whole = len(data) - len(data) % frame
        self._odd = data[whole:]
        values = np.frombuffer(data[:whole], dtype=self._type).astype(np.float32)
        if not np.isfinite(values).all():
            raise AudioError("a block with NaN or infinite samples", "not_finite")
        frames = values.reshape(-1, self._channels) / self._full_scale
        return self._converter.convert(frames.mean(axis=1, dtype=np.float32))

    def finish(self) -> Samples:
        if self._left or self._odd:
            raise AudioError("a WAV with fewer samples than it promised", "truncated")
        return self._converter.flush()


class _Mp3:
    """MPEG layer III, frame by frame."""

    def __init__(self) -> None:
        self._codec = av.CodecContext.create("mp3", "r")
        self._resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
        self._tag: bytes | None = b""
        self._skip = 0

    def feed(self, data: bytes) -> Samples:
        if self._tag is not None:
            self._tag += data
            if len(self._tag) < ID3_HEADER_BYTES:
                return silence(0)
            data, self._tag = self._tag, None
            self._skip = _id3_bytes(data)
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        return self._decoded(data[skipped:]) if len(data) > skipped else silence(0)

    def finish(self) -> Samples:
        rest = [self._decoded(b"")]
        rest += [part.to_ndarray()[0] for part in self._resampler.resample(None)]
        return np.concatenate(rest)

    def _decoded(self, data: bytes) -> Samples:
        blocks = [silence(0)]
        try:
            for packet in self._codec.parse(data):
                for frame in self._codec.decode(packet):
                    if isinstance(frame, av.AudioFrame):
                        blocks += [part.to_ndarray()[0] for part in self._resampler.resample(frame)]
        except av.FFmpegError as error:
            raise AudioError("an MP3 that cannot be decoded", "unreadable") from error
        return np.concatenate(blocks)


class _Whole:
    """Any other form that FFmpeg reads: decoded when it is all there."""

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> Samples:
        self._pieces.append(data)
        return silence(0)

    def finish(self) -> Samples:
        return read_audio(io.BytesIO(b"".join(self._pieces)), longest=self._longest)


def _id3_bytes(head: bytes) -> int:
    """Give the length of an ID3v2 tag (id3.org, section 3.1: seven bits a byte); 0 for none."""
    if not head.startswith(b"ID3"):
        return 0
    size = 0
    for byte in head[6:10]:
        size = size << 7 | byte & 0x7F
    return ID3_HEADER_BYTES + size


def _is_mp3_frame(head: bytes) -> bool:
    """Tell whether an MPEG layer III frame begins here (ISO 11172-3, 2.4.1.3)."""
    return len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2


def _is_text(head: bytes) -> bool:
    """Tell whether JSON, HTML, a playlist or a word begins here.

    No container begins with 32 printable characters, and neither do samples without a header: they
    would be as many loud ones of one sign.
    """
    begun = head[:SNIFFED_BYTES]
    most = 0xFF if begun.lstrip().startswith((b"{", b"[", b"<")) else 0x7E
    return all(0x20 <= byte <= most or byte in b"\t\r\n" for byte in begun)


def _not_audio(what: str) -> EngineError:
    return EngineError(
        f"{what}, where audio was asked for",
        "check that the address and the model are those of a voice, not of a chat or a web page",
        failure="wrong_address",
        outcome="not_audio",
    )


def _too_long(longest: float) -> AudioError:
    return AudioError(f"more than {longest:.0f} s of audio for the text", "too_long")
