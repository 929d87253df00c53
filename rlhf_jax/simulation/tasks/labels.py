"""Classification: one right label out of a few."""

from rlhf_jax.simulation import lexicon
from rlhf_jax.simulation.claims import words
from rlhf_jax.simulation.facts import SUBJECTS
from rlhf_jax.simulation.tasks.questions import WRONG_VALUE
from rlhf_jax.simulation.tasks.task import Ask, Judgement, Task, listed

_REVIEWS = {
    "good": (
        "The [soup|pie|bread] in {town} was [warm|sweet|fresh] and we came back twice.",
        "I love my new {thing}.", "{who} made a [strong|fine|lovely] {thing} for me.",
        "The best day of my year was the fair in {town}.",
    ),
    "bad": (
        "The [soup|pie|bread] in {town} was [cold|sour|old] and we left early.",
        "My new {thing} broke in a day.",
        "{who} sold me a [weak|broken|dirty] {thing}.",
        "The fair in {town} was dull and wet.",
    ),
}  # fmt: skip
_TONES = {
    "polite": (
        "Could you please bring the {thing}?", "Thank you for the {thing}, {who}.",
        "Would you kindly help me with the {thing}?",
    ),
    "rude": (
        "Bring the {thing} now, you fool.", "Get out, {who}, you lazy liar.",
        "Your {thing} is ugly and so are you.",
    ),
}  # fmt: skip
_TIMES = {
    "past": ("{who} walked to {town}.", "{who} found a {thing}.",
             "The {animal} slept in the barn."),
    "future": ("{who} will walk to {town}.", "{who} will find a {thing}.",
               "The {animal} will sleep in the barn."),
}  # fmt: skip
_TOPICS = {"animal": "animal", "person": "person", "town": "town", "object": "object"}
SORTS = {
    "review": (_REVIEWS, "[Is this review good or bad?|Label the review as good or "
               "bad.]"),
    "tone": (_TONES, "[Is this line polite or rude?|Say if the line is polite or "
             "rude.]"),
    "time": (_TIMES, "[Is this about the past or the future?|Label the line as past or "
             "future.]"),
    "topic": (_TOPICS, "[Is this an animal, a person, a town or an object?|Label the "
              "word as animal, person, town or object.]"),
}  # fmt: skip


class Classify(Task):
    """Give the label of a line, and nothing else."""

    name = "classify"
    use_case = "classification"
    shot = ("Label each text.", "Text", "Label")
    closed = True
    partials = "I would say {label}, but I am not sure, as it is hard to tell."

    def draw(self, world, dice):
        sort = dice.weighted(list(SORTS), (4, 3, 2, 2))
        label = dice.pick(list(SORTS[sort][0]))
        if sort == "topic":
            text = dice.pick(SUBJECTS[label])
        else:
            text = dice.vary(
                dice.pick(SORTS[sort][0][label]),
                who=dice.pick(list(lexicon.PEOPLE)), town=dice.pick(lexicon.TOWNS),
                thing=dice.pick(list(lexicon.OBJECTS)),
                animal=dice.pick(list(lexicon.ANIMALS)),
            )  # fmt: skip
        return {"sort": sort, "label": label, "text": text}

    def labels(self, spec):
        """The labels to choose from."""
        return list(SORTS[spec["sort"]][0])

    def similar(self, world, spec, dice):
        while True:
            other = self.draw(world, dice)
            if other["sort"] == spec["sort"] and other["text"] != spec["text"]:
                return other

    def heading(self, spec):
        return f"Label each text as {listed(self.labels(spec), joiner='or')}."

    def ask(self, world, spec, dice):
        return Ask(dice.vary(SORTS[spec["sort"]][1]), spec["text"])

    def query(self, world, spec, dice):
        return spec["text"]

    def ideal(self, world, spec, dice):
        label = spec["label"]
        forms = (
            ("{L}.", "{l}", "It is {l}.")
            if spec["sort"] != "topic"
            else ("{L}.", "{l}")
        )
        return dice.pick(forms).format(l=label, L=label.capitalize())

    def wrong(self, world, spec, dice):
        others = [label for label in self.labels(spec) if label != spec["label"]]
        return dice.pick(others).capitalize() + "."

    def judge(self, world, spec, response):
        said = [word for word in words(response) if word in self.labels(spec)]
        given = sorted(set(said))
        if len(given) != 1:
            return Judgement(0.0, 4, claims_count=False)
        right = given[0] == spec["label"]
        return Judgement(
            1.0 if right else WRONG_VALUE, 4, true=float(right), claims_count=False
        )
