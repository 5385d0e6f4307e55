"""From what a caller sends to what can be spoken: words and pauses. It knows no voices.

normalise.py and sentences.py prepare words for a speech model. They are imported by name where such
a model runs: what they need is not in the image that has none.
"""

from service.text.markup import LONGEST_PAUSE, LONGEST_TEXT, Pause, Segment, Words, prose, segments

__all__ = ["LONGEST_PAUSE", "LONGEST_TEXT", "Pause", "Segment", "Words", "prose", "segments"]
