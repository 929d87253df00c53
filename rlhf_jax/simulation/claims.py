"""Reading text against the world: words, sentences and the claims they make.

A claim is (subject, relation, value, affirmed). A sentence in the present tense that
names a subject, a cue of one of its relations and a value of that relation's domain
claims it; "not", "never" or "no" earlier in the same clause turns it round. A sentence
in the past tense claims nothing, as those of stories: it has a verb of the past and
none that states how things are.
"""

import functools
import re
from dataclasses import dataclass

from rlhf_jax.simulation.facts import SUBJECT_KIND, World, relations_of
from rlhf_jax.simulation.narratives import NARRATIVE
from rlhf_jax.simulation.relations import PRESENT, RELATIONS, bare_verb

_WORD = re.compile(r"[A-Za-z]+|[0-9]+")
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")
_CLAUSE = re.compile(r"[,;:]|(?= but )|(?= because )")
_NEGATION = frozenset({"not", "never", "no", "nobody", "untrue", "myth"})
# what means a thing or an animal, and what means a person
_PRONOUNS = (frozenset({"it"}), frozenset({"he", "she"}))
_SUBJECT = {name.lower(): name for name in SUBJECT_KIND}


@dataclass(frozen=True)
class Claim:
    """What a sentence says of a subject; `affirmed` is False where it is denied."""

    subject: str
    relation: str
    value: str
    affirmed: bool

    def is_true(self, world: World) -> bool:
        """Whether the world is as the sentence says it is."""
        return world.holds(self.subject, self.relation, self.value) == self.affirmed


def words(text: str) -> list[str]:
    """The words and numbers of a text in lower case.

    >>> words("Mice, I think: 12!")
    ['mice', 'i', 'think', '12']
    """
    return list(_words(text))


@functools.lru_cache(maxsize=1 << 16)
def _words(text: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in _WORD.findall(text))


def sentences(text: str) -> list[str]:
    """The sentences (or lines) of a text; pieces without a word are left out."""
    return [part.strip() for part in _SENTENCE.findall(text) if _WORD.search(part)]


@functools.cache
def value_words(name: str) -> dict[str, str]:
    """Word in lower case -> value of a relation's domain."""
    found = {value.lower(): value for value in RELATIONS[name].domain}
    if name == "sound":
        found.update({bare_verb(value): value for value in RELATIONS[name].domain})
    return found


def affirmed_values(text: str, name: str) -> tuple[list[str], list[str]]:
    """The values of a relation's domain that a text affirms, and those it denies."""
    known = value_words(name)
    said: dict[bool, list[str]] = {True: [], False: []}
    for sentence in sentences(text):
        for clause in _CLAUSE.split(sentence):
            negated = False
            for word in words(clause):
                negated |= word in _NEGATION
                if word in known and known[word] not in said[not negated]:
                    said[not negated].append(known[word])
    return said[True], said[False]


def claims(text: str, *, about: str | None = None) -> list[Claim]:
    """Every claim of a text, each once, in order.

    Args:
      text: a response.
      about: the subject that "it", "he" or "she" means until another is named, for
        answers to a question about it.

    Returns:
      The claims; none for text that names no subject or states no relation.
    """
    found: dict[Claim, None] = {}
    for sentence in sentences(text):
        tokens = words(sentence)
        if past(tokens):
            continue
        named = [(i, _SUBJECT[w]) for i, w in enumerate(tokens) if w in _SUBJECT]
        if about is not None:
            fits = _PRONOUNS[SUBJECT_KIND[about] == "person"]
            first = named[0][0] if named else len(tokens)
            named = [
                *((i, about) for i, word in enumerate(tokens[:first]) if word in fits),
                *named,
            ]
        for claim in sentence_claims(sentence, tokens, named):
            found[claim] = None
        if named:
            about = named[0][1]
    return list(found)


def past(tokens: list[str]) -> bool:
    """Whether a sentence, by its words, tells of the past and not of how things are.

    >>> past(words("Long ago a dog had a home by the garden."))
    True
    >>> past(words("The dog lives in the house, as it was cold."))
    False
    """
    return not NARRATIVE.isdisjoint(tokens) and PRESENT.isdisjoint(tokens)


def sentence_claims(sentence, tokens, named) -> list[Claim]:
    """The claims of one sentence with its named subjects and their places."""
    present = set(tokens)
    negated = negated_places(sentence)
    found = []
    for name, entry in RELATIONS.items():
        owners = [(i, s) for i, s in named if name in relations_of(SUBJECT_KIND[s])]
        if not owners or (entry.cues and not entry.cues & present):
            continue
        known = value_words(name)
        for place, word in enumerate(tokens):
            if word not in known:
                continue
            before = [s for i, s in owners if i < place]
            after = [s for i, s in owners if i > place]
            owner = before[-1] if before else (after[0] if after else None)
            if owner is not None:
                found.append(Claim(owner, name, known[word], place not in negated))
    return found


def negated_places(sentence: str) -> set[int]:
    """The word places of a sentence that stand after a negation in their clause."""
    places, index = set(), 0
    for clause in _CLAUSE.split(sentence):
        negated = False
        for word in words(clause):
            negated |= word in _NEGATION
            if negated:
                places.add(index)
            index += 1
    return places
