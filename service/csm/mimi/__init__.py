"""The Mimi codec: audio at 24 kHz to frames of codes, and back, whole or as a stream.

Tensors in, tensors out: it opens no file and knows nothing of the language model above it.
"""

from service.csm.mimi.codec import DecodeStream, Mimi
from service.csm.mimi.config import CodecConfig

__all__ = ["CodecConfig", "DecodeStream", "Mimi"]
