"""Records and text: real data in, exact batches out. numpy only, no jax.

records         Demonstration, Ranking, Prompt, Text: strict pydantic rows
rows            lines -> values; `file:line: field: why` for every bad one
account         what became of rows: read, used, dropped, cut, in one line
unpacked        gzip and Zstandard
strict_json     lines of JSON, without the standard library's liberties
json_arrays     the same for files that are one JSON array
readers/        everybody's formats -> records (`read`, `detect_format`)
writers         own JSONL, TRL's types, CSV; whole files or none
hygiene         the paper's rules, each with a count report
pii, language   personal data by pattern; the language of a prompt
expansion       the three kinds of prompt; few-shot rows -> demonstrations
openings        beginnings of texts as prompts
labelled        labelled sentences, and rankings made of them
report          what is in a set of records
tokenizers      text <-> ids: bytes, subwords, training a BPE
tokenizer_files tokenizers from directories and the hub
tokenizer_settings  the JSON files beside a tokenizer
vocabulary      whether a tokenizer and an embedding are of one model
pieces          byte-level BPE, each word encoded once
conversations   the form in which a model reads conversations
templates       the form "template": a tokenizer's chat template
rendering       chat templates rendered, in a process with limits
control_tokens  the template's control tokens apart from what people type
token_rows      records as ids: prompts, sequences, rankings; their limits
encoding        record -> ids, and from where on they are trained
apart           prompt and response each by itself, for an encoder
packing         which rows share a sequence or a length
ragged          rows of unequal length in flat arrays, in memory or on disk
sequences       demonstrations and text as batches: padded, packed, in windows
batches         prompts and rankings as batches
streams         batch i as a function of (seed, i): shuffled, sharded, mixed
pipelines       records -> stream, one function per kind of training data
sources         files or objects -> records of the kind that a stage wants
trial           what a stage would do with rows, without running it
display         one record in colours: what is trained
"""

from rlhf_jax.data.account import Account, row_metrics
from rlhf_jax.data.conversations import (
    ConversationForm,
    conversation_form,
    default_form,
    require_form,
)
from rlhf_jax.data.encoding import (
    Limits,
    encode_demonstrations,
    encode_prompts,
    encode_rankings,
    encode_texts,
)
from rlhf_jax.data.pipelines import (
    demonstration_stream,
    mixed_stream,
    prompt_stream,
    ranking_stream,
    text_stream,
)
from rlhf_jax.data.readers import detect_format, read
from rlhf_jax.data.records import (
    Demonstration,
    Message,
    Prompt,
    Ranking,
    Record,
    Text,
)
from rlhf_jax.data.rows import Intake
from rlhf_jax.data.streams import Stream, epoch_order
from rlhf_jax.data.tokenizer_files import load_tokenizer
from rlhf_jax.data.tokenizers import (
    ByteTokenizer,
    SubwordTokenizer,
    Tokenizer,
    train_bpe,
)
from rlhf_jax.data.writers import trl_pairs, write_csv, write_jsonl, write_trl

__all__ = [
    "Account",
    "ByteTokenizer",
    "ConversationForm",
    "Demonstration",
    "Intake",
    "Limits",
    "Message",
    "Prompt",
    "Ranking",
    "Record",
    "Stream",
    "SubwordTokenizer",
    "Text",
    "Tokenizer",
    "conversation_form",
    "default_form",
    "demonstration_stream",
    "detect_format",
    "encode_demonstrations",
    "encode_prompts",
    "encode_rankings",
    "encode_texts",
    "epoch_order",
    "load_tokenizer",
    "mixed_stream",
    "prompt_stream",
    "ranking_stream",
    "row_metrics",
    "read",
    "require_form",
    "text_stream",
    "train_bpe",
    "trl_pairs",
    "write_csv",
    "write_jsonl",
    "write_trl",
]
