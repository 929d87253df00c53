"""One call for every reward model: K responses per prompt in, K scores out."""

from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.models.encoder import EncoderRewardModel
from rlhf_jax.models.heads import ScalarModel, last_values
from rlhf_jax.models.prefix import shared_prefix_values


def response_scores(
    model: ScalarModel | EncoderRewardModel,
    params: dict,
    prompts: Int[Array, "B P"],
    prompt_valid: Bool[Array, "B P"],
    responses: Int[Array, "B K R"],
    response_valid: Bool[Array, "B K R"],
    **kwargs,
) -> Float[Array, "B K"]:
    """Scores r(x, y) of K responses y per prompt x; each prompt is computed once.

    Args:
      model: a decoder with a scalar head, or an encoder reward model; tokens are those
        of its own tokenizer.
      params: its parameters.
      prompts: x.
      prompt_valid: true at real tokens.
      responses: y_1 .. y_K.
      response_valid: true at real tokens; a row without any scores 0 (decoder).
      **kwargs: `deterministic`, `rngs`, for a decoder.

    Returns:
      Scores, float32.
    """
    rows = (prompts, prompt_valid, responses, response_valid)
    if isinstance(model, EncoderRewardModel):
        return model.apply({"params": params}, *rows)
    values = shared_prefix_values(model, params, *rows, **kwargs)
    width = values.shape[-1]
    scores = last_values(values.reshape(-1, width), response_valid.reshape(-1, width))
    return scores.reshape(values.shape[:2])
