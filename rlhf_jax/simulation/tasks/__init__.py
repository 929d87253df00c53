"""The tasks of the valley, by the ten use cases of InstructGPT's Table 1.

task.py       what a task is, and measures that several share
stories.py    generation: stories, sentences, rhymes
letters.py    generation: notes, signs, cruel requests
questions.py  open questions, false premises, descriptions
lists.py      brainstorming
chat.py       chat
rewriting.py  rewrite
passages.py   summarisation, closed questions, extraction
labels.py     classification
other.py      sums and work on words
"""

from rlhf_jax.simulation.tasks.chat import Belief, Chat, Greeting, UnkindChat
from rlhf_jax.simulation.tasks.labels import Classify
from rlhf_jax.simulation.tasks.letters import Note, Sign, Unkind
from rlhf_jax.simulation.tasks.lists import Brainstorm
from rlhf_jax.simulation.tasks.other import Opposite, Sum, WordWork
from rlhf_jax.simulation.tasks.passages import ClosedQuestion, Extract, Summarise
from rlhf_jax.simulation.tasks.questions import (
    FalsePremise,
    Polar,
    Question,
)
from rlhf_jax.simulation.tasks.rewriting import Rewrite
from rlhf_jax.simulation.tasks.stories import Sentence, Story, Verse
from rlhf_jax.simulation.tasks.task import Ask, Judgement, Spec, Task
from rlhf_jax.simulation.tasks.telling import Describe, Unknowable

# Ouyang et al. 2022, Table 1: percent of the reward model's prompts
USE_CASES = {
    "generation": 45.6,
    "open_qa": 12.4,
    "brainstorming": 11.2,
    "chat": 8.4,
    "rewrite": 6.6,
    "summarization": 4.2,
    "classification": 3.5,
    "other": 3.5,
    "closed_qa": 2.6,
    "extract": 1.9,
}
_CLASSES = (
    Story, Sentence, Verse, Describe, Note, Sign, Unkind,
    Question, Polar, FalsePremise, Unknowable,
    Brainstorm,
    Chat, Greeting, Belief, UnkindChat,
    Rewrite, Summarise, Classify,
    Sum, WordWork, Opposite,
    ClosedQuestion, Extract,
)  # fmt: skip
TASKS: dict[str, Task] = {kind.name: kind() for kind in _CLASSES}

__all__ = ["TASKS", "USE_CASES", "Ask", "Judgement", "Spec", "Task"]
