"""Files of any known format -> records, bad rows told by file, line and field.

own           own JSONL
trl           TRL's types
dialogues     messages, transcripts, HH-RLHF
trees         OpenAssistant
instructions  Dolly, Alpaca, self-instruct, GSM8K, SQuALITY
comparisons   Argilla, PPLM's A/B test, labelled sentences
documents     plain text, lines, books, articles
tables        CSV, TSV
hub           Hugging Face datasets
formats       the table of all of them, `read`, and which format a file has
"""

from rlhf_jax.data.readers.formats import (
    FORMATS,
    Format,
    detect_format,
    format_of,
    read,
)

__all__ = ["FORMATS", "Format", "detect_format", "format_of", "read"]
