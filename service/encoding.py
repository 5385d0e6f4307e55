"""From samples to the bytes of an answer: containers and codecs, block by block or as a whole.

It knows nothing of who asked; rates and tempo are `Converter`'s.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, Protocol

import av
import numpy as np

from service.audio import SAMPLE_RATES, Samples, to_pcm16, wav_header

__all__ = ["FORMATS", "Encoder", "Format", "FormatName", "encoder"]

FormatName = Literal["wav", "mp3", "opus", "flac", "aac", "pcm", "ulaw"]


@dataclass(frozen=True)
class Format:
    """A form that an answer can have.

    + media_type: of the answer (IANA's registry; RFC 7845 for Opus in Ogg, RFC 3551 for µ-law)
    + muxer, codec: as FFmpeg calls them
    + rates: Hz that the form can have
    + bit_rate: bits a second, for codecs that lose something
    + streamed: options of the muxer where it cannot go back to its beginning
    """

    media_type: str
    muxer: str
    codec: str
    rates: tuple[int, ...] = SAMPLE_RATES
    bit_rate: int | None = None
    streamed: Mapping[str, str] = field(default_factory=dict)


FORMATS: Mapping[FormatName, Format] = {
    "wav": Format("audio/wav", "wav", "pcm_s16le"),
    # A tag or a table of contents at the beginning would say lengths that nobody knows yet.
    "mp3": Format(
        "audio/mpeg",
        "mp3",
        "libmp3lame",
        bit_rate=96_000,
        streamed={"write_xing": "0", "id3v2_version": "0"},
    ),
    # Pages of one frame, 20 ms: by default a second of speech would wait for its page.
    "opus": Format(
        "audio/ogg",
        "ogg",
        "libopus",
        rates=(8_000, 16_000, 24_000, 48_000),
        bit_rate=48_000,
        streamed={"page_duration": "20000"},
    ),
    "flac": Format("audio/flac", "flac", "flac"),
    "aac": Format("audio/aac", "adts", "aac", bit_rate=96_000),
    "pcm": Format("audio/pcm", "s16le", "pcm_s16le"),
    "ulaw": Format("audio/basic", "mulaw", "pcm_mulaw"),
}
"""Every form, by the name that requests use."""


class Encoder(Protocol):
    """Takes blocks of samples in order and gives bytes as soon as there are any."""

    def encode(self, block: Samples) -> bytes:
        """Take a block [samples]; give what is ready."""
        ...

    def finish(self) -> bytes:
        """Give the rest. Nothing may be encoded after it."""
        ...


def encoder(
    name: FormatName, sample_rate: int, *, streamed: bool, bit_rate: int | None = None
) -> Encoder:
    """Give an encoder of a form.

    A streamed answer gives bytes with every block. A whole one gives all of them at its end, and
    its header then says how long it is.

    + sample_rate: Hz, one of the form's
    + bit_rate: bits a second, where the form has one; None: the form's own

    Raises ValueError for a rate that the form cannot have.
    """
    form = FORMATS[name]
    if sample_rate not in form.rates:
        raise ValueError(f"{name} has no rate of {sample_rate} Hz")
    if name == "wav":
        return _Wav(sample_rate, streamed=streamed)
    return _Muxed(form, sample_rate, streamed=streamed, bit_rate=bit_rate or form.bit_rate)


class _Wav:
    """16-bit PCM behind a RIFF header, which names the largest sizes where none is known yet."""

    def __init__(self, sample_rate: int, *, streamed: bool) -> None:
        self._rate = sample_rate
        self._streamed = streamed
        self._kept: list[bytes] = []
        self._begun = False

    def encode(self, block: Samples) -> bytes:
        pcm = to_pcm16(block)
        if not self._streamed:
            self._kept.append(pcm)
            return b""
        header = b"" if self._begun else wav_header(None, self._rate)
        self._begun = True
        return header + pcm

    def finish(self) -> bytes:
        if self._streamed:
            return b"" if self._begun else wav_header(None, self._rate)
        pcm = b"".join(self._kept)
        return wav_header(len(pcm), self._rate) + pcm


class _Sink:
    """Where a muxer writes what it will never look at again."""

    def __init__(self) -> None:
        self._held = bytearray()

    def write(self, data: bytes) -> int:
        self._held += data
        return len(data)

    def take(self) -> bytes:
        taken = bytes(self._held)
        self._held.clear()
        return taken


class _Muxed:
    """A codec in a container, by FFmpeg."""

    def __init__(
        self, form: Format, sample_rate: int, *, streamed: bool, bit_rate: int | None
    ) -> None:
        self._rate = sample_rate
        self._position = 0
        self._sink = _Sink()
        self._file = io.BytesIO()
        self._streamed = streamed
        options = dict(form.streamed) if streamed else {}
        where = self._sink if streamed else self._file
        self._container = av.open(where, "w", format=form.muxer, options=options)
        stream = self._container.add_stream(form.codec, rate=sample_rate, layout="mono")
        if not isinstance(stream, av.AudioStream):
            raise TypeError(f"{form.codec} is no codec of audio")
        if bit_rate is not None:
            stream.bit_rate = bit_rate
        self._stream = stream
        self._resampler = av.AudioResampler(
            format=stream.codec_context.format, layout="mono", rate=sample_rate
        )

    def encode(self, block: Samples) -> bytes:
        if block.size:
            clipped = np.clip(block, -1, 1)[np.newaxis, :]
            frame = av.AudioFrame.from_ndarray(clipped, format="flt", layout="mono")
            frame.sample_rate = self._rate
            frame.time_base = Fraction(1, self._rate)
            frame.pts = self._position
            self._position += block.size
            self._mux(frame)
        return self._sink.take()

    def finish(self) -> bytes:
        self._mux(None)
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._sink.take() if self._streamed else self._file.getvalue()

    def _mux(self, frame: av.AudioFrame | None) -> None:
        for ready in self._resampler.resample(frame):
            self._container.mux(self._stream.encode(ready))
