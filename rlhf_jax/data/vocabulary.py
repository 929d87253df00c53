"""Whether a tokenizer and an embedding are of one model."""

from rlhf_jax.data.tokenizers import Tokenizer
from rlhf_jax.errors import InputError

__all__ = ["check_vocabulary"]

MOST_NAMED = 3


def check_vocabulary(tokenizer: Tokenizer, rows: int, name: str) -> None:
    """Refuses a tokenizer with ids that the embedding has no row for.

    Such an id would read another row, or none, and training would end in NaN. An
    embedding may have more rows than the tokenizer has tokens.

    Args:
      tokenizer: of the model.
      rows: V, rows of the embedding.
      name: of the model, for the error.

    Raises:
      InputError: names the tokens.
    """
    ids = {
        "end token": tokenizer.end_tokens,
        "begin token": (tokenizer.begin_token,),
        "pad token": (tokenizer.pad_token,),
    }
    for what, found in ids.items():
        for token in found:
            if token is not None and not 0 <= token < tokenizer.vocab_size:
                raise InputError(
                    f"{name}: {what} {token} is in no vocabulary: the tokenizer has "
                    f"{tokenizer.vocab_size} tokens"
                )
    if tokenizer.vocab_size <= rows:
        return
    beyond = range(rows, tokenizer.vocab_size)
    named = [f"{tokenizer.token_text(i)!r} ({i})" for i in beyond[:MOST_NAMED]]
    more = len(beyond) - len(named)
    tail = f" and {more} more" if more else ""
    raise InputError(
        f"{name}: the tokenizer has {tokenizer.vocab_size} tokens, the embedding "
        f"{rows} rows: no row for {', '.join(named)}{tail}; take the tokens out of the "
        "tokenizer, or give the embedding rows for them"
    )
