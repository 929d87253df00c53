"""Stop strings, on the host: a response is cut where a text appears in it.

End tokens stop a response while it is written. A stop string may begin and end inside
tokens, so it is looked for in the decoded text afterwards; for evaluation and chat.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from rlhf_jax.errors import InputError
from rlhf_jax.sampling.samples import Samples


def first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Where the earliest stop string begins in `text`, or None.

    >>> first_stop("yes. Q: no", ["Q:", "."])
    3
    """
    found = [place for stop in stops if (place := text.find(stop)) >= 0]
    return min(found, default=None)


def cut_at_stop_strings(
    samples: Samples,
    decode: Callable[[Sequence[int]], str],
    stops: Sequence[str],
    *,
    end_tokens: Sequence[int] = (),
) -> tuple[list[str], Samples]:
    """Texts up to the first stop string, and the samples with the same cut.

    A cut row keeps the fewest tokens whose text contains the stop string: the tokens
    that the model needed to write it. It counts as finished.

    Args:
      samples: of `generate`.
      decode: ids to text, of the tokenizer.
      stops: stop strings; none of them empty.
      end_tokens: a final one of these is left out of the text.

    Returns:
      B texts without their stop strings, and `Samples` of numpy arrays.

    Raises:
      InputError: an empty stop string, which would stop everything at once.
    """
    if not all(stops):
        raise InputError(f"sampling: stop strings are {list(stops)!r}, one is empty")
    tokens, lengths = np.asarray(samples.tokens), np.array(samples.lengths)
    finished, texts = np.array(samples.finished), []
    for row, length in enumerate(lengths):
        ids = tokens[row, :length].tolist()
        text = decode(ids[:-1] if ids and ids[-1] in end_tokens else ids)
        place = first_stop(text, stops)
        if place is not None:
            lengths[row] = _tokens_until(ids, decode, stops)
            finished[row] = True
        texts.append(text[:place])
    mask = np.arange(tokens.shape[1])[None] < lengths[:, None]
    logprobs = np.where(mask, np.asarray(samples.logprobs), np.float32(0))
    cut = dataclasses.replace(
        samples, mask=mask, logprobs=logprobs, finished=finished, lengths=lengths
    )
    return texts, cut


def _tokens_until(ids, decode, stops) -> int:
    """The fewest tokens whose text contains a stop string, by bisection."""
    low, high = 1, len(ids)
    while low < high:
        middle = (low + high) // 2
        if first_stop(decode(ids[:middle]), stops) is None:
            low = middle + 1
        else:
            high = middle
    return low
