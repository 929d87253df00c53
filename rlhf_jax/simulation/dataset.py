"""All data of a valley from one seed: `simulate`, and `write` for files.

Sets do not share a prompt; users are split into train, valid and test, and all rows of
a user are in their split. What a row holds depends on the seed and the row's number.
"""

import pathlib
from collections.abc import Mapping, Sequence

from rlhf_jax.data.records import Demonstration, Prompt, Ranking, Record
from rlhf_jax.data.tokenizers import ByteTokenizer, train_bpe
from rlhf_jax.errors import InputError
from rlhf_jax.simulation.candidates import candidates, write_response
from rlhf_jax.simulation.corpus import corpus
from rlhf_jax.simulation.dice import Dice
from rlhf_jax.simulation.facts import World, make_world
from rlhf_jax.simulation.labelers import Labeler, held_out_labelers, training_labelers
from rlhf_jax.simulation.probes import truth_questions
from rlhf_jax.simulation.prompts import draw_use_case, make_prompt, make_user
from rlhf_jax.simulation.skills import SKILLS, skill_examples
from rlhf_jax.storage import write_text

# rows of each set; the shares of the paper's Table 6 at a size that trains in minutes
SIZES = {
    "pretraining": 40_000,
    "demonstrations": 2_000,
    "rankings": 2_500,
    "held_out_rankings": 400,
    "prompts": 5_000,
    "skills": 150,
}
VOCAB_SIZE = 1_536
USERS = 1_500
# how demonstrations are written: people are not ideal
WRITING = {"ideal": 0.64, "wordy": 0.13, "partial": 0.12, "curt": 0.07, "false": 0.04}


def prompt_set(world: World, name: str, count: int, seen: set[str]) -> list[Prompt]:
    """`count` prompts whose texts are not in `seen`, which grows by them."""
    found = []
    for number in range(count):
        row = Dice("row", world.seed, name, number)
        user, use_case = make_user(world.seed, row.below(USERS)), draw_use_case(row)
        for attempt in range(200):
            dice = Dice("prompt", world.seed, name, number, attempt)
            key = f"{name}-{number:05d}"
            prompt = make_prompt(world, user, dice, key, use_case)
            if prompt.prompt.lower() not in seen:
                seen.add(prompt.prompt.lower())
                found.append(prompt)
                break
    return found


def demonstrate(prompt: Prompt, seed: int) -> Demonstration:
    """A demonstration by one of eight writers, with their human variety."""
    dice = Dice("demonstration", seed, prompt.id)
    style = dice.weighted(list(WRITING), list(WRITING.values()))
    text = write_response(prompt, style, dice)
    meta = {**prompt.meta, "style": style, "writer": f"writer-{dice.below(8)}"}
    return Demonstration(**{**prompt.model_dump(), "meta": meta}, response=text)


def label(
    prompt: Prompt, responses: Sequence[str], labeler: Labeler, *, shown_order=None
) -> Ranking:
    """One labeler's ranking of responses, with Likert scores and flags.

    Args:
      prompt: a record of this simulation.
      responses: K texts.
      labeler: who ranks.
      shown_order: the places in which they are shown; as given when None.

    Returns:
      The record; its ranks belong to `responses` as they are given.
    """
    order = list(range(len(responses))) if shown_order is None else list(shown_order)
    shown = labeler.rank(prompt, [responses[k] for k in order])
    ranks = [0] * len(order)
    for slot, k in enumerate(order):
        ranks[k] = shown[slot]
    return Ranking(
        **prompt.model_dump(),
        responses=list(responses),
        ranks=ranks,
        likert=labeler.likert(prompt, responses),
        flags=labeler.flags(prompt, responses),
        labeler=labeler.name,
        shown_order=order,
    )


def rank_candidates(prompt: Prompt, labelers: Sequence[Labeler], seed: int) -> Ranking:
    """K = 4..9 candidate responses of a prompt, ranked by one of the labelers."""
    dice = Dice("ranking", seed, prompt.id)
    texts = [c.text for c in candidates(prompt, dice, dice.between(4, 9))]
    order = dice.shuffled(range(len(texts)))
    return label(prompt, texts, dice.pick(labelers), shown_order=order)


def skill_records(world: World, count: int) -> list[Demonstration]:
    """The held-out skills as rows: the prompt, and the completion as the response."""
    return [
        Demonstration(
            id=f"{skill}-{number:04d}", prompt=given, response=follows, split="test",
            use_case=skill, source="simulation", meta={"skill": skill},
        )
        for skill in SKILLS
        for number, (given, follows) in enumerate(skill_examples(world, skill, count))
    ]  # fmt: skip


def simulate(
    seed: int = 0, sizes: Mapping[str, int] | None = None
) -> dict[str, list[Record]]:
    """Every set of a valley.

    Args:
      seed: of the world and of all that is drawn from it.
      sizes: rows of each set, overriding `SIZES`.

    Returns:
      "pretraining" (`Text`), "demonstrations" (`Demonstration`), "rankings" by the
      training labelers and "held_out_rankings" by the others (`Ranking`), "prompts"
      (`Prompt`), "truth" (`Prompt`), "skills" (`Demonstration`).

    Raises:
      InputError: sizes names an unknown set.
    """
    unknown = sorted(set(sizes or {}) - set(SIZES))
    if unknown:
        raise InputError(f"unknown set {unknown[0]!r}; there are {', '.join(SIZES)}")
    sizes = {**SIZES, **(sizes or {})}
    world, seen = make_world(seed), set()
    truth = [question.prompt for question in truth_questions(world)]
    seen.update(prompt.prompt.lower() for prompt in truth)
    asked = {
        name: prompt_set(world, name, sizes[name], seen)
        for name in ("demonstrations", "rankings", "held_out_rankings", "prompts")
    }
    training, held_out = training_labelers(seed), held_out_labelers(seed)
    return {
        "pretraining": corpus(world, sizes["pretraining"]),
        "demonstrations": [demonstrate(p, seed) for p in asked["demonstrations"]],
        "rankings": [rank_candidates(p, training, seed) for p in asked["rankings"]],
        "held_out_rankings": [
            rank_candidates(p, held_out, seed) for p in asked["held_out_rankings"]
        ],
        "prompts": asked["prompts"],
        "truth": truth,
        "skills": skill_records(world, sizes["skills"]),
    }


def write(
    directory: str | pathlib.Path,
    seed: int = 0,
    sizes: Mapping[str, int] | None = None,
    *,
    vocab_size: int = VOCAB_SIZE,
) -> dict[str, pathlib.Path]:
    """Writes the sets of a seed as JSONL files, and a tokenizer trained on them.

    Args:
      directory: is made if it does not exist.
      seed, sizes: see `simulate`.
      vocab_size: pieces of the byte-level BPE.

    Returns:
      Set name -> its file `<name>.jsonl`, and "tokenizer" -> its directory.

    Raises:
      InputError: an unknown set or an impossible `vocab_size`; nothing is written.
    """
    least = ByteTokenizer.vocab_size
    if vocab_size < least:
        raise InputError(f"vocab_size: expected at least {least}, got {vocab_size}")
    sets = simulate(seed, sizes)
    tokenizer = train_tokenizer(sets, vocab_size)
    folder = pathlib.Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, records in sets.items():
        paths[name] = folder / f"{name}.jsonl"
        rows = (record.model_dump_json(exclude_none=True) for record in records)
        write_text(paths[name], "".join(row + "\n" for row in rows))
    paths["tokenizer"] = folder / "tokenizer"
    tokenizer.save(paths["tokenizer"])
    return paths


def train_tokenizer(sets: Mapping[str, Sequence[Record]], vocab_size: int = VOCAB_SIZE):
    """A byte-level BPE of the training texts of all sets."""
    texts = [r.text for r in sets["pretraining"] if r.split == "train"]
    for record in sets["demonstrations"]:
        if record.split == "train":
            texts += [record.prompt, record.response]
    return train_bpe(texts, vocab_size)
