"""What records become as token ids, and how long they may be."""

from dataclasses import dataclass

__all__ = ["Limits", "PromptTokens", "RankedTokens", "SequenceTokens"]


@dataclass(frozen=True)
class Limits:
    """How long a prompt and a response may be, in tokens.

    Prompts that are longer are dropped and counted, responses that are longer are cut
    and counted: Ouyang et al. 2022, A.2 and C.2 (prompts over 1k tokens filtered,
    responses at most 1k, context 2k). A response's end token counts.
    """

    prompt: int = 1024
    response: int = 1024
    total: int | None = None  # of prompt and response together: the context


@dataclass(frozen=True)
class SequenceTokens:
    """One demonstration or document as ids.

    Args:
      index: its place among the records that were read, the dropped ones counted.
      tokens: prompt, response and end token.
      start: index of the first token that is trained; the first token of a sequence
        has nothing before it to be predicted from, so start ≥ 1.
      truncated: the response was cut, and the end token is missing.
      weights: how much each token counts, 0 where it is not trained; None: 1 from
        `start` on.
    """

    index: int
    tokens: list[int]
    start: int
    truncated: bool = False
    weights: list[float] | None = None


@dataclass(frozen=True)
class RankedTokens:
    """One ranking as ids: the prompt once, then K responses with their end tokens."""

    index: int
    prompt: list[int]
    responses: list[list[int]]
    ranks: list[int]
    truncated: list[bool]


@dataclass(frozen=True)
class PromptTokens:
    """One prompt as ids."""

    index: int
    tokens: list[int]
