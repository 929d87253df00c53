"""A model in memory: what it is, its parameters, its tokenizer and its form."""

import dataclasses
import datetime
import functools
from collections.abc import Iterable
from typing import Any

import jax

from rlhf_jax.data.conversations import (
    ConversationForm,
    conversation_form,
    default_form,
    require_form,
)
from rlhf_jax.errors import InputError
from rlhf_jax.models import (
    EncoderRewardModel,
    LanguageModel,
    ScalarModel,
    cast_matrices,
    init_params,
)


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A model with its parameters and its tokenizer.

    Attributes:
      model: `LanguageModel`, `ScalarModel` or `EncoderRewardModel`.
      params: nested dict of float32 arrays; None where another has taken them over.
      tokenizer: see `rlhf_jax.data`.
      meta: where it came from: stage, hashes, and what the stage adds.
      source: the directory or hub name that its params were read from.
      adapter: see `registry.adapters.Adapter`: the params then are those of a base
        that others may share, with its changes laid beside it. None: they are its own.
    """

    model: Any
    params: Any
    tokenizer: Any
    meta: dict[str, Any]
    source: str | None = None
    adapter: Any = None

    @functools.cached_property
    def form(self) -> ConversationForm:
        """How it reads conversations; see `data.conversations`."""
        name = self.meta.get("form") or "plain"
        if name != "template":
            return conversation_form(name, self.tokenizer)
        from rlhf_jax.data.templates import TemplateForm

        # a template that writes the date writes that of the day it was chosen
        day = self.meta.get("form_date")
        now = day and datetime.datetime.fromisoformat(day)
        return TemplateForm(self.tokenizer, now=now)

    def in_form(
        self, records: Iterable[Any], asked: str | None = None, where: str = "form"
    ) -> "LoadedModel":
        """The same model, its form settled and kept in `meta`.

        Args:
          records: what it will read; decides where nobody has said a form.
          asked: the form that a config names; None: the model's.
          where: names the setting in errors.

        Raises:
          InputError: the model was trained in another form than the one asked for.
        """
        name = self.meta.get("form")
        if name is None:
            talks = any(getattr(row, "messages", None) for row in records)
            name = asked or default_form(self.tokenizer, conversations=talks)
        name = require_form(name, asked, where)
        meta = {**self.meta, "form": name}
        if name == "template":
            today = datetime.date.today().isoformat()
            meta["form_date"] = self.meta.get("form_date", today)
        found = dataclasses.replace(self, meta=meta)
        found.form  # noqa: B018 (refuses a form that its tokenizer does not have)
        return found

    def released(self) -> "LoadedModel":
        """The same model without its params, which a state has taken over."""
        return dataclasses.replace(self, params=None)

    def with_config(self, **changes: Any) -> "LoadedModel":
        """The same params under another config, such as another dropout or dtype."""
        config = dataclasses.replace(self.model.config, **changes)
        return dataclasses.replace(self, model=type(self.model)(config))


def light_params(model: Any, params: Any) -> Any:
    """Params of a model that is not trained: matrices in the dtype that it computes in.

    Args:
      model: of any kind, or an ensemble; an encoder's stay as they are.
      params: its params.
    """
    if isinstance(model, EncoderRewardModel):
        return params
    cast = functools.partial(cast_matrices, dtype=model.config.dtype)
    # an ensemble's are stacked: member by member, so that a vector is known as one
    return (jax.vmap(cast) if hasattr(model, "member") else cast)(params)


def form_of(loaded: LoadedModel) -> dict[str, Any]:
    """What the meta of a model made from another keeps of its form."""
    names = ("form", "form_date")
    return {name: loaded.meta[name] for name in names if name in loaded.meta}


# text, spaces, capitals, digits, quotes, letters of other scripts: what tokenizers
# cut in different places
_PROBE = "The same ids? 1 2 3, 2024:\n\t'Don't' naïve 東京 x = {y};"


def require_one_tokenizer(a: LoadedModel, b: LoadedModel, what: str) -> None:
    """Refuses two models where the ids of one would be read by the other's rules.

    Args:
      a, b: the models.
      what: names them in the message, as "ppo.reward: the policy and the reward model".

    Raises:
      InputError: their tokenizers cut, number or end texts differently.
    """

    def rules(model: LoadedModel) -> tuple:
        tokenizer = model.tokenizer
        ids = tuple(tokenizer.encode(_PROBE))
        return ids, tokenizer.vocab_size, tokenizer.end_token

    if rules(a) != rules(b):
        raise InputError(f"{what} have different tokenizers")


def reward_from(language_model: LoadedModel, key: Any) -> LoadedModel:
    """A reward model that starts from a language model (InstructGPT section 3.5).

    The unembedding is dropped; a fresh projection to one number takes its place.
    """
    model = ScalarModel(language_model.model.config)
    head = jax.jit(lambda key: init_params(model, key)["head"])(key)
    params = {"trunk": language_model.params["trunk"], "head": head}

    return dataclasses.replace(language_model, model=model, params=params)


def require_reward_model(loaded: LoadedModel, name: Any) -> LoadedModel:
    """The same reward model without dropout.

    Raises:
      InputError: it is a language model.
    """
    if isinstance(loaded.model, LanguageModel):
        raise InputError(f"{name}: holds a language model, expected a reward model")
    if isinstance(loaded.model, ScalarModel):
        return loaded.with_config(residual_dropout=0.0)
    return loaded


def require_language_model(loaded: LoadedModel, name: Any) -> LoadedModel:
    """The same language model.

    Raises:
      InputError: it is a reward or value model.
    """
    if not isinstance(loaded.model, LanguageModel):
        raise InputError(f"{name}: holds a reward model, expected a language model")
    return loaded


def value_from(reward_model: LoadedModel) -> LoadedModel:
    """The value function starts as the reward model, head and all (appendix C.4)."""
    return reward_model
