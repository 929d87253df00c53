"""Files of any known format -> records, bad rows told by file, line and field.

own           own JSONL
trl           TRL's types
dialogues     HH-RLHF's transcripts, ShareGPT's conversations
trees         OpenAssistant, as trees and as flat rows
instructions  Dolly, Alpaca, self-instruct, GSM8K, SQuALITY
comparisons   Argilla, PPLM's A/B test, labelled sentences
documents     plain text, lines, books, articles
arena         two answers and a winner
preferences   UltraFeedback, Nectar, HelpSteer, SHP
pairs         chosen and rejected, however they are written
conversations turns as other people write them; transcripts
assembled     what comes before a response, and records made of it
tables        CSV, TSV
hub           Hugging Face datasets
containers    the rows of any file: JSON, tables, Parquet, the hub
column_map    `map:prompt=question,response=answer`, read and checked
columns       records by a column map
choices       what a column "best" may hold
meaning       fields that must be used or refused
formats       the table of all formats
detection     which of them a file has
reading       `read`
"""

from rlhf_jax.data.readers.detection import detect_format, format_of, named
from rlhf_jax.data.readers.formats import FORMATS, Format
from rlhf_jax.data.readers.reading import read

__all__ = ["FORMATS", "Format", "detect_format", "format_of", "named", "read"]
