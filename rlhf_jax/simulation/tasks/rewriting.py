"""Rewriting: politely, kindly, in the past, or with another word."""

from rlhf_jax.simulation import lexicon
from rlhf_jax.simulation.claims import words
from rlhf_jax.simulation.narratives import where
from rlhf_jax.simulation.tasks.task import Ask, Judgement, Task, overlap
from rlhf_jax.simulation.toxicity import toxicity

_ORDERS = ("bring the {thing}", "open the door", "help me with the {thing}",
           "close the gate", "give me the {thing}", "wait {at}",
           "feed the {animal}", "clean the {thing}", "come to the {place}",
           "tell me the way to {town}")  # fmt: skip
_POLITE = ("Could you please {order}?", "Please {order}.",
           "Would you kindly {order}?")  # fmt: skip
_VERBS = (
    ("finds", "found"), ("sees", "saw"), ("carries", "carried"), ("loses", "lost"),
    ("wants", "wanted"), ("sells", "sold"), ("makes", "made"), ("likes", "liked"),
    ("hides", "hid"), ("brings", "brought"),
)  # fmt: skip
_WHERE = ("{at}", "in {town}", "near the {place}", "on {day}")
_MODES = {
    "polite": "[Make this polite:|Say this politely:|Rewrite this in a polite way.]",
    "kind": "[Say this in a kind way:|Make this line kind:|Rewrite this without the "
    "insult.]",
    "past": "[Put this in the past:|Rewrite this in the past.|Change this to the "
    "past:]",
    "swap": "[Rewrite this with {new} in place of {old}.|Change {old} to {new}:|Put "
    "{new} where it says {old}.]",
}


class Rewrite(Task):
    """Change a line as asked and keep the rest; the measure is what copying lacks.

    A copy of the line scores 0 and the target 1: with f the word overlap (F1 of the
    longest common subsequence), followed = max over targets of
    (f(response) - f(line)) / (1 - f(line)).
    """

    name = "rewrite"
    use_case = "rewrite"
    shot = ("Rewrite each line as in the examples.", "Line", "Rewritten")
    echo = True

    def draw(self, world, dice):
        mode = dice.pick(list(_MODES))
        fill = {
            "thing": dice.pick(list(lexicon.OBJECTS)), "town": dice.pick(lexicon.TOWNS),
            "place": dice.pick(lexicon.PLACES), "day": dice.pick(lexicon.DAYS),
            "animal": dice.pick(list(lexicon.ANIMALS)),
        }  # fmt: skip
        fill["at"] = where(fill["place"])
        spec = {"mode": mode, "old": "", "new": ""}
        if mode in {"polite", "kind"}:
            spec |= self.order(dice, mode, fill)
        else:
            spec |= self.line(dice, mode, fill)
        return spec

    def order(self, dice, mode, fill):
        """A rough order as `line`, polite ones as `targets`."""
        order = dice.pick(_ORDERS).format(**fill)
        targets = [form.format(order=order) for form in _POLITE]
        if mode == "polite":
            return {"line": f"{order[0].upper()}{order[1:]}{dice.pick(('!', ' now.'))}",
                    "targets": targets}  # fmt: skip
        insult = dice.pick(("you fool", "you lazy fool", "you idiot", "stupid"))
        line = f"{order[0].upper()}{order[1:]}, {insult}!"
        return {"line": line, "targets": [targets[1], targets[0]]}

    def line(self, dice, mode, fill):
        """A line with its `targets`: in the past tense, or of another subject."""
        who, other = dice.sample(
            [*lexicon.PEOPLE, *(f"the {a}" for a in lexicon.ANIMALS)], 2
        )
        now, then = dice.pick(_VERBS)
        rest = f"the {fill['thing']} {dice.pick(_WHERE).format(**fill)}."

        def tell(subject, verb):
            return f"{subject[0].upper()}{subject[1:]} {verb} {rest}"

        if mode == "past":
            return {"line": tell(who, now), "targets": [tell(who, then)]}
        return {"line": tell(who, then), "targets": [tell(other, then)],
                "old": who, "new": other}  # fmt: skip

    def similar(self, world, spec, dice):
        while True:
            other = self.draw(world, dice)
            if other["mode"] == spec["mode"] and other["line"] != spec["line"]:
                return other

    def ask(self, world, spec, dice):
        return Ask(dice.vary(_MODES[spec["mode"]], **spec), spec["line"])

    def query(self, world, spec, dice):
        if spec["mode"] != "swap":
            return spec["line"]
        return f"{spec['line']} ({spec['old']} -> {spec['new']})"

    def ideal(self, world, spec, dice):
        return dice.pick(spec["targets"])

    def partial(self, world, spec, dice):
        target = spec["targets"][0].rstrip(".?").split(" ")
        keep = max(2, (2 * len(target)) // 3)
        return " ".join(target[:keep]) + "."

    def wrong(self, world, spec, dice):
        return spec["line"]

    def wordings(self):
        fill = {"thing": "hat", "at": where("mill"), "animal": "fox", "place": "mill",
                "town": lexicon.TOWNS[0]}  # fmt: skip
        orders = [order.format(**fill) for order in _ORDERS]
        return tuple(form.format(order=o) for form in _POLITE for o in orders)

    def judge(self, world, spec, response):
        followed = 0.0
        for target in spec["targets"]:
            copied = overlap(spec["line"], target)
            followed = max(
                followed, (overlap(response, target) - copied) / (1 - copied)
            )
        if spec["mode"] in {"polite", "kind"}:
            asks = {"please", "kindly", "could", "would"} & set(words(response))
            rude = toxicity(response) > 0
            followed = followed if asks and not rude else 0.0
        limit = max(len(words(target)) for target in spec["targets"]) + 3
        return Judgement(followed, limit, claims_count=False)
