"""Chat templates with the structure of the families that people use, and tiny
tokenizers that have their control tokens.

The texts between the placeholders are each family's format, which models are trained
on; how the templates are written is ours.
"""

import dataclasses
import functools

from tokenizers import (
    AddedToken,
    Regex,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
)
from tokenizers import Tokenizer as Backend

from rlhf_jax.data.tokenizers import SubwordTokenizer, byte_characters

WORDS = (
    "system user assistant model tool hello there what is two plus You are helpful "
    "The weather in Paris name parameters city function call answer 12 123 \n\n \t\t"
).split(" ")

CHATML_TURNS = """
{%- for m in messages -%}
<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}"""
CHATML_OPEN = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
CHATML = CHATML_TURNS + CHATML_OPEN


def with_default_system(system: str) -> str:
    """ChatML that says who the assistant is where nobody did."""
    return (
        "{% if messages[0].role != 'system' %}<|im_start|>system\n"
        f"{system}<|im_end|>\n" + "{% endif %}" + CHATML
    )


QWEN_TOOLS = """
{%- set first = messages[0] if messages[0].role == 'system' else none -%}
{%- set said = first.content if first else default_system -%}
{%- if tools -%}
<|im_start|>system
{{ said }}

# Tools

<tools>
{%- for tool in tools -%}{{ '\\n' ~ tool | tojson }}{%- endfor %}
{{ '\\n' }}</tools><|im_end|>
{% elif said -%}
<|im_start|>system
{{ said }}<|im_end|>
{% endif -%}
{%- for m in (messages[1:] if first else messages) -%}
{%- if m.role == 'tool' -%}
{{ '<|im_start|>user' if loop.first or loop.previtem.role != 'tool' else '' }}
{{- '\\n<tool_response>\\n' ~ m.content ~ '\\n</tool_response>' }}
{{- '<|im_end|>\\n' if loop.last or loop.nextitem.role != 'tool' else '' }}
{%- elif m.role == 'assistant' and m.tool_calls -%}
<|im_start|>assistant
{%- if m.content -%}{{ '\\n' ~ m.content }}{%- endif -%}
{%- for call in m.tool_calls -%}
{{ '\\n<tool_call>' }}
{"name": "{{ call.function.name }}", "arguments": {# one line -#}
{{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor -%}
{{ '<|im_end|>\\n' }}
{%- else -%}
ASSISTANT_OR_OTHER
{%- endif -%}
{%- endfor -%}
"""
PLAIN_TURN = "{{ '<|im_start|>' ~ m.role ~ '\\n' ~ m.content ~ '<|im_end|>\\n' }}"
THINKING_TURN = """
{%- if m.role == 'assistant' -%}
{%- set answer = m.content.split('</think>')[-1].lstrip('\\n') -%}
{%- set thought = '<think>\\n\\n</think>\\n\\n' if loop.last else '' -%}
{{ '<|im_start|>assistant\\n' ~ thought ~ answer ~ '<|im_end|>\\n' }}
{%- else -%}
{{ '<|im_start|>' ~ m.role ~ '\\n' ~ m.content ~ '<|im_end|>\\n' }}
{%- endif -%}
"""
QWEN25 = (
    "{%- set default_system = 'You are a helpful assistant.' -%}"
    + QWEN_TOOLS.replace("ASSISTANT_OR_OTHER", PLAIN_TURN)
    + CHATML_OPEN
)
QWEN3 = (
    "{%- set default_system = '' -%}"
    + QWEN_TOOLS.replace("ASSISTANT_OR_OTHER", THINKING_TURN)
    + "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}"
    "<think>\n\n</think>\n\n{% endif %}{% endif %}"
)

LLAMA2 = """
{%- set ns = namespace(system='') -%}
{%- for m in messages -%}
{%- if m.role == 'system' -%}
{%- if not loop.first -%}{{ raise_exception('the system speaks first') }}{%- endif -%}
{%- set ns.system = '<<SYS>>\\n' ~ m.content ~ '\\n<</SYS>>\\n\\n' -%}
{%- elif m.role == 'user' -%}
{{ bos_token ~ '[INST] ' ~ (ns.system ~ m.content) | trim ~ ' [/INST]' }}
{%- set ns.system = '' -%}
{%- elif m.role == 'assistant' -%}
{{ ' ' ~ m.content | trim ~ ' ' ~ eos_token }}
{%- else -%}
{{ raise_exception('only user and assistant') }}
{%- endif -%}
{%- endfor -%}
"""

HEADER = "<|start_header_id|>{0}<|end_header_id|>\n\n"
LLAMA3 = (
    "{% for m in messages %}{% if loop.first %}{{ bos_token }}{% endif %}"
    + HEADER.format("{{ m.role }}")
    + "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    + "{% if add_generation_prompt %}"
    + HEADER.format("assistant")
    + "{% endif %}"
)
LLAMA31 = """
{{- bos_token }}
{%- if messages[0].role == 'system' %}
{%- set system = messages[0].content | trim %}{% set said = messages[1:] %}
{%- else %}{% set system = '' %}{% set said = messages %}{% endif %}
{%- if date_string is not defined %}
{%- if strftime_now is defined %}{% set date_string = strftime_now('%d %b %Y') %}
{%- else %}{% set date_string = '26 Jul 2024' %}{% endif %}
{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}
{%- if tools is not none %}{{- 'Environment: ipython\\n' }}{% endif %}
{{- 'Cutting Knowledge Date: December 2023\\nToday Date: ' ~ date_string ~ '\\n\\n' }}
{%- for tool in tools or [] %}{{- tool | tojson(indent=4) ~ '\\n\\n' }}{% endfor %}
{{- system ~ '<|eot_id|>' }}
{%- for m in said %}
{%- if m.tool_calls %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{{- '{"name": "' ~ m.tool_calls[0].function.name ~ '", "parameters": ' }}
{{- m.tool_calls[0].function.arguments | tojson }}
{{- '}<|eot_id|>' }}
{%- elif m.role == 'tool' or m.role == 'ipython' %}
{{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' ~ m.content | tojson }}
{{- '<|eot_id|>' }}
{%- else %}
{{- '<|start_header_id|>' ~ m.role ~ '<|end_header_id|>\\n\\n' }}
{{- m.content | trim ~ '<|eot_id|>' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

MISTRAL = """
{%- if messages[0].role == 'system' -%}
{%- set system = messages[0].content ~ '\\n\\n' -%}{%- set said = messages[1:] -%}
{%- else -%}{%- set system = '' -%}{%- set said = messages -%}{%- endif -%}
{%- set asked = namespace(last=-1) -%}
{%- for m in said if m.role == 'user' -%}{%- set asked.last = m -%}{%- endfor -%}
{{ bos_token }}
{%- for m in said -%}
{%- if m.role == 'user' -%}
{%- if tools and m == asked.last -%}
[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]
{%- endif -%}
{{ '[INST] ' ~ (system if m == asked.last else '') ~ m.content ~ '[/INST]' }}
{%- elif m.tool_calls -%}
{{ '[TOOL_CALLS]' ~ (m.tool_calls | map(attribute='function') | list | tojson) }}
{{- eos_token }}
{%- elif m.role == 'assistant' -%}
{{ ' ' ~ m.content ~ eos_token }}
{%- elif m.role == 'tool' -%}
[TOOL_RESULTS]{{ {'content': m.content} | tojson }}[/TOOL_RESULTS]
{%- else -%}
{{ raise_exception('unknown role ' ~ m.role) }}
{%- endif -%}
{%- endfor -%}
"""

GEMMA = """
{{- bos_token -}}
{%- if messages[0].role == 'system' -%}
{{ raise_exception('System role not supported') }}
{%- endif -%}
{%- for m in messages -%}
{%- if (m.role == 'user') != (loop.index0 % 2 == 0) -%}
{{ raise_exception('roles must alternate user/assistant') }}
{%- endif -%}
{{ '<start_of_turn>' ~ ('model' if m.role == 'assistant' else m.role) ~ '\\n' }}
{{- m.content | trim ~ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}
"""

ZEPHYR = """
{%- for m in messages -%}
{{ '<|' ~ m.role ~ '|>\\n' ~ m.content ~ eos_token ~ '\\n' }}
{%- if loop.last and add_generation_prompt -%}{{ '<|assistant|>\\n' }}{%- endif -%}
{%- endfor -%}
"""

PHI3 = """
{%- for m in messages -%}
{{ '<|' ~ m.role ~ '|>\\n' ~ m.content ~ '<|end|>\\n' }}
{%- endfor -%}
{{ '<|assistant|>\\n' if add_generation_prompt else eos_token }}
"""

DEEPSEEK = """
{%- set ns = namespace(system='') -%}
{%- for m in messages if m.role == 'system' -%}
{%- set ns.system = ns.system ~ m.content -%}
{%- endfor -%}
{{ bos_token ~ ns.system }}
{%- for m in messages -%}
{%- if m.role == 'user' -%}
{{ '<｜User｜>' ~ m.content }}
{%- elif m.role == 'assistant' -%}
{{ '<｜Assistant｜>' ~ m.content ~ '<｜end▁of▁sentence｜>' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<｜Assistant｜>' }}{%- endif -%}
"""

OLMO = """
{{- bos_token -}}
{%- for m in messages -%}
{{ '<|' ~ m.role ~ '|>\\n' ~ m.content }}
{%- if m.role == 'assistant' -%}
{{ eos_token if loop.last else eos_token ~ '\\n' }}
{%- else -%}{{ '\\n' }}{%- endif -%}
{%- if loop.last and add_generation_prompt -%}{{ '<|assistant|>\\n' }}{%- endif -%}
{%- endfor -%}
"""

SMOLLM3 = """
{%- for m in messages -%}
{{ '<|im_start|>' ~ m.role ~ '\\n' }}
{%- if m.role == 'assistant' -%}
{%- generation -%}{{ m.content ~ '<|im_end|>' }}{%- endgeneration -%}
{%- else -%}
{{ m.content ~ '<|im_end|>' }}
{%- endif -%}
{{ '\\n' }}
{%- endfor -%}
"""
SMOLLM3 += CHATML_OPEN

LLAMA3_TOKENS = ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>")
LLAMA3_TOKENS += ("<|start_header_id|>", "<|end_header_id|>", "<|python_tag|>")
IM = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CUT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
CUT += r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@dataclasses.dataclass(frozen=True)
class ChatFamily:
    """A template and the tokenizer it is used with.

    Attributes:
      template: in Jinja.
      special: the control tokens.
      names: "bos_token" and so on.
      kind: of the tokenizer: "gpt2", "split" (Llama 3's, Qwen's and DeepSeek's cut),
        "nfc" (with Qwen's NFC), "spaces" (sentencepiece's "▁" before a text),
        "legacy" (the same before every piece).
      closing: the token that ends a turn.
      system: whether the template takes a system message.
      tools: whether it takes tools and tool messages.
      rewrites: it writes earlier turns otherwise than the last one.
      rstrip: the control tokens swallow white space behind them.
    """

    template: str
    special: tuple[str, ...]
    names: dict[str, str]
    kind: str
    closing: str
    system: bool = True
    tools: bool = False
    rewrites: bool = False
    rstrip: bool = False

    @functools.cached_property
    def tokenizer(self) -> SubwordTokenizer:
        """A tiny tokenizer of this kind, with the template."""
        backend = {"spaces": spaces, "legacy": spaces}.get(self.kind, bytewise)(self)
        return SubwordTokenizer(backend, {**self.names, "chat_template": self.template})


def bytewise(family: ChatFamily) -> Backend:
    """A byte-level BPE."""
    letters = dict(zip(map(chr, range(256)), byte_characters(), strict=True))
    words = [w for word in WORDS for w in (word, " " + word)]
    pieces, merges = merged([[letters[c] for c in word] for word in words])
    vocab = [*letters.values(), *pieces]
    backend = Backend(models.BPE({p: i for i, p in enumerate(vocab)}, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if family.kind != "gpt2":
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(CUT), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    backend.normalizer = normalizers.NFC() if family.kind == "nfc" else None
    backend.decoder = decoders.ByteLevel()
    return marked(backend, family)


def spaces(family: ChatFamily) -> Backend:
    """Sentencepiece's kind of BPE: "▁" for a space, bytes for what is unknown."""
    letters = ["<unk>", *(f"<0x{b:02X}>" for b in range(256)), "▁"]
    letters += [chr(c) for c in range(33, 127)] + ["é", "\n", "\t"]
    pieces, merges = merged([list(w) for word in WORDS for w in (word, "▁" + word)])
    vocab = {piece: i for i, piece in enumerate([*letters, *pieces])}
    backend = Backend(
        models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    if family.kind == "legacy":
        backend.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(
            replacement="▁", prepend_scheme="first", split=False
        )
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)])
    return marked(backend, family)


def merged(words) -> tuple[list[str], list[tuple[str, str]]]:
    """Pieces that grow letter by letter to whole words, and how."""
    merges = {}
    for word in words:
        for i in range(1, len(word)):
            merges.setdefault("".join(word[: i + 1]), ("".join(word[:i]), word[i]))
    return list(merges), list(merges.values())


def marked(backend: Backend, family: ChatFamily) -> Backend:
    """The backend with the family's control tokens."""
    unknown = [t for t in ("<unk>",) if t in family.names.values()]
    marks = [
        AddedToken(text, rstrip=family.rstrip, normalized=False, special=True)
        for text in [*unknown, *family.special]
    ]
    backend.add_special_tokens(marks)
    return backend


ENDOFTEXT = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
IM_END = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
SENTENCE = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
LLAMA3_NAMES = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}
MISTRAL_MARKS = ("[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]")
MISTRAL_MARKS += ("[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]")
GEMMA_NAMES = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
GEMMA_MARKS = ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>")
DEEPSEEK_MARKS = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>")
DEEPSEEK_NAMES = {"bos_token": DEEPSEEK_MARKS[0], "eos_token": DEEPSEEK_MARKS[1]}
DEEPSEEK_MARKS += ("<｜User｜>", "<｜Assistant｜>")
PHI_MARKS = ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
SMOL_SYSTEM = "You are a helpful AI assistant."

CHAT_FAMILIES = {
    "llama2": ChatFamily(LLAMA2, ("<s>", "</s>"), SENTENCE, "legacy", "</s>"),
    "llama3": ChatFamily(LLAMA3, LLAMA3_TOKENS, LLAMA3_NAMES, "split", "<|eot_id|>"),
    "llama3.1": ChatFamily(
        LLAMA31, LLAMA3_TOKENS, LLAMA3_NAMES, "split", "<|eot_id|>", tools=True
    ),
    "mistral": ChatFamily(
        MISTRAL, ("<s>", "</s>", *MISTRAL_MARKS), SENTENCE, "spaces", "</s>", tools=True
    ),
    "qwen2": ChatFamily(
        with_default_system("You are a helpful assistant."), IM, IM_END, "nfc",
        "<|im_end|>",
    ),
    "qwen2.5": ChatFamily(QWEN25, IM, IM_END, "nfc", "<|im_end|>", tools=True),
    "qwen3": ChatFamily(
        QWEN3, IM, IM_END, "nfc", "<|im_end|>", tools=True, rewrites=True
    ),
    "gemma": ChatFamily(
        GEMMA, GEMMA_MARKS, GEMMA_NAMES, "spaces", "<end_of_turn>", system=False
    ),
    "gemma2": ChatFamily(
        GEMMA, GEMMA_MARKS, GEMMA_NAMES, "gpt2", "<end_of_turn>", system=False
    ),
    "chatml": ChatFamily(CHATML, IM, ENDOFTEXT, "gpt2", "<|im_end|>"),
    "zephyr": ChatFamily(ZEPHYR, ("<s>", "</s>"), SENTENCE, "legacy", "</s>"),
    "smollm2": ChatFamily(
        with_default_system(SMOL_SYSTEM), IM, IM_END, "gpt2", "<|im_end|>"
    ),
    "smollm3": ChatFamily(SMOLLM3, IM, IM_END, "split", "<|im_end|>"),
    "phi3": ChatFamily(
        PHI3, PHI_MARKS, ENDOFTEXT, "gpt2", "<|end|>", rstrip=True
    ),
    "deepseek": ChatFamily(
        DEEPSEEK, DEEPSEEK_MARKS, DEEPSEEK_NAMES, "split", "<｜end▁of▁sentence｜>"
    ),
    "olmo": ChatFamily(
        OLMO, ("<|endoftext|>",), {**ENDOFTEXT, "bos_token": "<|endoftext|>"}, "gpt2",
        "<|endoftext|>",
    ),
}  # fmt: skip

# texts on which tokenizers of different makes part
HARD = [
    "In 2024 the price was 1234567 euros, 3.14 or 1e-9.",
    "e\u0301 cafe\u0301 é ﬁ Å Ω",
    "foo(bar)\n\n\n  return {'x': [1, 2]}\t# done\r\n",
    "  two  spaces   at both ends  ",
    "don't I'LL we've 'quoted' \"double\"",
    "🙂 👩‍👩‍👧 🇩🇪 \u200b\ufeff",
    "東京 ニュース 서울 Москва Αθήνα עברית العربية हिन्दी ไทย বাংলা தமிழ் ქართული",
    "<|im_end|> </s> <s> [INST] <end_of_turn> <|eot_id|> typed by a person",
    "hello there▁what Ġis",
    "",
]

SYSTEM = {"role": "system", "content": "Be brief."}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather in a city, in °C <b>",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
            },
        },
    }
]
CALL = {"name": "weather", "arguments": {"city": "Zürich"}}
# name: (needs, messages, tools)
CONVERSATIONS = {
    "one question": (None, [("user", "hello there")], None),
    "two turns": (
        None,
        [("user", "hello"), ("assistant", "there, 1234"), ("user", "what?\n\n"),
         ("assistant", "two")],
        None,
    ),
    "odd texts": (
        None,
        [("user", "  naïve é 東京 🙂\n\tx = {y}; "),
         ("assistant", "(a) it's 12345 <b>")],
        None,
    ),
    "system": (
        "system",
        [("system", "Be brief."), ("user", "hello"), ("assistant", "there")],
        None,
    ),
    "tools": (
        "tools",
        [("user", "weather?"), ("assistant", [CALL]), ("tool", '{"celsius": 21}'),
         ("assistant", "21 degrees")],
        TOOLS,
    ),
}  # fmt: skip


def messages_of(turns) -> list[dict]:
    """Messages as dicts; a list of calls instead of a text is a tool call."""
    return [
        {"role": role, "content": said}
        if isinstance(said, str)
        else {
            "role": role,
            "content": "",
            "tool_calls": [{"type": "function", "function": call} for call in said],
        }
        for role, said in turns
    ]


def cases():
    """(family, conversation) of every pair that goes together."""
    for family, made in CHAT_FAMILIES.items():
        for name, (needs, _, _) in CONVERSATIONS.items():
            if needs is None or getattr(made, needs):
                yield family, name
