"""Which language a prompt is in: a tag for reports, by script and frequent words.

Ouyang et al. 2022 (A.4) tagged 110k rows with langid.py, 96 % of them English, and
believed the true share above 99 %, because short prompts mislead it. Ours gives "und"
(undetermined) rather than guess.

Differs: langid.py is a trained model of 97 languages; this knows 9 languages in Latin
script, and those that a script gives away.
"""

import re

# small frequent words; those that are also English stand under English alone
_WORDS = {
    "en": "the and of to is that it was for with you this are have not what how my "
    "can do be your from i which they we will would write give tell explain "
    "about in on as at by or if an a has had he she his her me so no all one "
    "some more than when many much does did each were there",
    "de": "der das und ist nicht ein eine ich zu mit auf für von dem den auch sich "
    "wie wir sie im bei oder kann",
    "fr": "le la les des est une dans pour que qui pas sur au avec ce je vous nous "
    "il elle sont du mais ou où comment être",
    "es": "el los las y una en por que con para del se como lo pero más mi qué cómo "
    "está hay yo muy sobre",
    "it": "il lo gli di è una che non con sono della dei nel alla più anche ma mi "
    "cosa perché questo",
    "pt": "o os e é uma em por que com para não da na como mais mas um você isso "
    "são ao",
    "nl": "de het een en van dat niet op te zijn met voor ik hoe wat je ook maar "
    "aan er dit",
    "sv": "och att det som en på är av för med den till inte jag om ett har hur vad",
    "pl": "w na się nie jest z że jak o co po ale tak czy przez",
}
_LEXICON = {tag: frozenset(words.split()) for tag, words in _WORDS.items()}
_SCRIPTS = (
    ("ja", r"[\u3040-\u30ff]"),
    ("ko", r"[\uac00-\ud7af]"),
    ("zh", r"[\u4e00-\u9fff]"),
    ("ru", r"[\u0400-\u04ff]"),
    ("ar", r"[\u0600-\u06ff]"),
    ("he", r"[\u0590-\u05ff]"),
    ("el", r"[\u0370-\u03ff]"),
    ("hi", r"[\u0900-\u097f]"),
    ("th", r"[\u0e00-\u0e7f]"),
)
_COMPILED = [(tag, re.compile(pattern)) for tag, pattern in _SCRIPTS]
READ = 2000  # characters looked at


def language(text: str) -> str:
    """The ISO 639-1 code of a text's language; "und" where it cannot be told.

    >>> language("How do I bake bread?"), language("Wie backe ich ein Brot?")
    ('en', 'de')
    >>> language("パンの焼き方"), language("42")
    ('ja', 'und')
    """
    text = text[:READ].lower()
    letters = sum(c.isalpha() for c in text)
    for tag, pattern in _COMPILED:
        # Japanese is told by its kana, however few stand among the characters it
        # shares with Chinese
        share = 0.1 if tag == "ja" else 0.3
        if letters and len(pattern.findall(text)) >= share * letters:
            return tag
    words = re.findall(r"[^\W\d_]+", text)
    counts = {tag: sum(w in known for w in words) for tag, known in _LEXICON.items()}
    best = max(counts, key=counts.get)
    rivals = [tag for tag, n in counts.items() if n == counts[best]]
    return best if counts[best] and len(rivals) == 1 else "und"
