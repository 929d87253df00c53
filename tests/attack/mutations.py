"""A document with something wrong in it: JSON, lines of JSON, bytes, safetensors."""

import json

import numpy as np

RAW = "raw:"  # what stands in JSON as it is, not as a string
HOSTILE = [
    *(None, True, False, 0, 1, -1, 2, 3, 7, 10_000_000, 2**31, 2**63, -(2**63)),
    *(0.5, -0.5, 1e-300, 1e308, -1e308, "", "0", "default", "x" * 5000, [], {}),
    *([[]], [None], {"a": 1}, [1, 2, 3], ["a", "b"], "\x1b[31m", "[/]", "../../etc"),
    *("</s>" * 1000, "<|endoftext|>" * 300, "/dev/zero", "\x00", "é" * 100),
    *(f"{RAW}NaN", f"{RAW}Infinity", f"{RAW}-Infinity", f"{RAW}1e999"),
    f"{RAW}{'9' * 5000}",
    f"{RAW}{'[' * 50_000}{']' * 50_000}",
    f'{RAW}"\\ud800"',
]
TEMPLATES = [
    "{% for i in range(1000000000) %}x{% endfor %}",
    "{{ 'x' * 1000000000 }}",
    "{% for a in messages * 100000 %}{{ messages }}{% endfor %}",
    "{{ messages[0].__class__.__mro__ }}",
    "{{ ''.__class__.__base__.__subclasses__() }}",
    "{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}",
    "{{ raise_exception('no') }}",
    "{{ messages[99].content.x }}",
    "{% if %}",
    "{{ 1 // 0 }}",
    "{{ cycler.__init__.__globals__ }}",
    "{% include 'x' %}",
    "{% set x = [] %}{% for i in range(10**6) %}{{ x.append(x) }}{% endfor %}",
    "",
    "\x00\x1b[2J",
]


def changed_json(value, rng: np.random.Generator):
    """A JSON value with one part replaced, removed or added; the value is changed."""
    places = list(_places(value))
    if not places:
        return _hostile(rng)
    holder, key = places[int(rng.integers(len(places)))]
    action = rng.random()
    if action < 0.7:
        holder[key] = _hostile(rng)
    elif action < 0.85:
        del holder[key]
    elif isinstance(holder, dict):
        holder[f"{key}_"] = _hostile(rng)
    else:
        holder.append(_hostile(rng))
    return value


def _places(value):
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(items)[:2000]:
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def _hostile(rng: np.random.Generator):
    return HOSTILE[int(rng.integers(len(HOSTILE)))]


def written(value) -> bytes:
    """JSON, and what stands raw in it as it is."""
    text = json.dumps(value, ensure_ascii=False)
    while (start := text.find(f'"{RAW}')) >= 0:
        end, inner = _string_end(text, start)
        text = text[:start] + inner.removeprefix(RAW) + text[end:]
    return text.encode("utf-8", "surrogatepass")


def _string_end(text: str, start: int) -> tuple[int, str]:
    inner, end = json.JSONDecoder().raw_decode(text, start)
    return end, inner


def changed_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """Bytes with a bit flipped, a span cut out, doubled or overwritten."""
    if not data:
        return bytes(rng.integers(0, 256, 16, dtype=np.uint8))
    place = int(rng.integers(len(data)))
    span = int(rng.integers(1, 64))
    action = int(rng.integers(6))
    if action == 0:
        changed = bytearray(data)
        changed[place] ^= 1 << int(rng.integers(8))
        return bytes(changed)
    if action == 1:
        return data[:place]
    if action == 2:
        return data[:place] + data[place + span :]
    if action == 3:
        return data[:place] + data[place : place + span] * 3 + data[place + span :]
    noise = bytes(rng.integers(0, 256, span, dtype=np.uint8))
    if action == 4:
        return data[:place] + noise + data[place + span :]
    return data[:place] + noise + data[place:]


def changed_tensors(data: bytes, rng: np.random.Generator) -> bytes:
    """A safetensors file with its header, the length of it, or its bytes changed."""
    length = int.from_bytes(data[:8], "little")
    head, rest = data[8 : 8 + length], data[8 + length :]
    action = rng.random()
    if action < 0.6:
        header = written(changed_json(json.loads(head), rng))
        return len(header).to_bytes(8, "little") + header + rest
    if action < 0.8:
        sizes = [0, 1, length - 1, length + 1, 2**31, 2**62, 2**64 - 1]
        wrong = sizes[int(rng.integers(len(sizes)))]
        return wrong.to_bytes(8, "little") + data[8:]
    return changed_bytes(data, rng)
