"""Byte-level BPE at the speed of a dictionary: a word is encoded once.

GPT-2's pre-tokenizer cuts a text into words before any merge, and always cuts before a
space that something other than white space follows: in its pattern
`'s|'t|... | ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+` such a space can
only be the first character of a match. So the ids of a text are the ids of its pieces
between those places, joined, and pieces come back again and again.
"""

import json
import re
from collections.abc import Sequence
from itertools import chain

CUT = re.compile(r"(?= \S)")
MOST = 1 << 18  # pieces remembered; some 50 MB
LONGEST = 64  # characters of a piece worth remembering


def cuts_at_spaces(backend) -> bool:
    """Whether a `tokenizers.Tokenizer` is a byte-level BPE with GPT-2's pattern alone.

    A normalizer, a prefix space, dropout, or words of the vocabulary that are looked
    for before the pattern would break the argument above.
    """
    settings = json.loads(backend.to_str())
    cutter, model = settings["pre_tokenizer"] or {}, settings["model"]
    return (
        settings["normalizer"] is None
        and cutter.get("type") == "ByteLevel"
        and cutter.get("use_regex", True)
        and not cutter.get("add_prefix_space")
        and model.get("type") == "BPE"
        and not model.get("dropout")
        and all(token["special"] for token in settings["added_tokens"])
    )


class PieceMemo:
    """Encodes texts piece by piece, asking `backend` only for pieces it has not seen.

    Args:
      backend: a tokenizer for which `cuts_at_spaces` holds.
    """

    def __init__(self, backend):
        self.backend = backend
        self._ids: dict[str, list[int]] = {}

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text; equal to the backend's own."""
        cut = [CUT.split(text) for text in texts]
        if len(self._ids) > MOST:
            self._ids.clear()
        new = [
            piece for piece in set(chain.from_iterable(cut)) if piece not in self._ids
        ]
        found = self.backend.encode_batch_fast(new, add_special_tokens=False)
        for piece, encoding in zip(new, found, strict=True):
            self._ids[piece] = encoding.ids
        ids_of = self._ids.__getitem__
        ids = [list(chain.from_iterable(map(ids_of, pieces))) for pieces in cut]
        for piece in new:
            if len(piece) > LONGEST:
                del self._ids[piece]
        return ids
