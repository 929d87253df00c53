"""Personal data: recall on planted pieces, precision on what only looks like it."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_jax.data.pii import find_pii, luhn

# All made up: documentation domains and address blocks, 555-01xx numbers, test cards.
PLANTED = {
    "email": [
        "jane.doe@example.com",
        "x+tag@mail.example.org",
        "o_brien99@sub.domain.example",
        "A.B-C@EXAMPLE.NET",
    ],
    "phone": [
        "(415) 555-0132",
        "415-555-0132",
        "415.555.0132",
        "+1 415 555 0132",
        "+44 20 7946 0958",
        "+49 30 901820",
        "1-415-555-0132",
        "+33 1 99 00 12 34",
    ],
    "card": [
        "4111 1111 1111 1111",
        "4111111111111111",
        "5500-0000-0000-0004",
        "378282246310005",
        "6011000990139424",
    ],
    "ssn": ["123-45-6789", "219-09-9999", "078-05-1120"],
    "ip": ["192.0.2.17", "203.0.113.254", "2001:db8::8a2e:370:7334", "10.1.2.3"],
    "iban": ["DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432"],
    "key": [
        "sk-proj-abcdefghijklmnopqrst1234",
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_" + "a1B2c3D4e5" * 4,
        "-----BEGIN RSA PRIVATE KEY-----",
        "xoxb-1234567890-abcdefghij",
    ],
}
DECOYS = [
    "In 1999, 1,234,567 people lived there; by 2024 it was 2,345,678.",
    "Version 1.2.3 replaced 1.2.2 on 2024-05-17 at 10:30:45.",
    "ISBN 978-3-16-148410-0 costs $12.99 (was $15.50).",
    "Call main() with x@y = 3 and a[0:10] or std::vector<int>.",
    "The score was 21-14, 3-2 and 110-98 in overtime.",
    "Pi is 3.14159265358979323846.",
    "Compute 12345 * 67890 = 838102050.",
    "Order 4111111111111112 was shipped.",
    "Localhost is 127.0.0.1, the mask 255.255.255.0, any is 0.0.0.0.",
    "Chapter 12.3.4.5.6 of the manual; room 000-12-3456.",
    "The ratio is 16:9 and the time 12:30.",
    "@someone wrote #1234 at http://example.org/a-b-c/123456789012",
    "Take 2 eggs, 200-250 g flour and 1/2 cup of milk.",
    "Between 1914-1918 and 1939-1945.",
    "task-force desk-based risk-averse pk_short",
    "Roman MCMXCIV, hex 0xDEADBEEF, hash d41d8cd98f00b204e9800998ecf8427e.",
]
FRAMES = [
    "{}",
    "My number is {}.",
    "Write to {}, please",
    "({})",
    "id: {}\nnext",
    "«{}»",
]


@pytest.mark.parametrize("kind", PLANTED)
def test_planted_personal_data_is_found_in_every_frame(kind):
    for piece in PLANTED[kind]:
        for frame in FRAMES:
            hits = find_pii(frame.format(piece))
            assert [(hit.kind, hit.text) for hit in hits] == [(kind, piece)], (
                piece,
                frame,
            )


@pytest.mark.parametrize("text", DECOYS)
def test_what_only_looks_like_personal_data_is_left_alone(text):
    assert find_pii(text) == []


def test_recall_and_precision_on_a_planted_text():
    """One in three sentences gets a piece; recall and precision are both above 95 %."""
    rng = random.Random(0)
    pieces = [(kind, piece) for kind, found in PLANTED.items() for piece in found]
    found = wanted = right = 0
    for _ in range(300):
        sentence = rng.choice(DECOYS)
        planted = rng.choice(pieces) if rng.random() < 1 / 3 else None
        text = sentence if planted is None else f"{sentence} Mine: {planted[1]} thanks."
        hits = [(hit.kind, hit.text) for hit in find_pii(text)]
        wanted += planted is not None
        found += len(hits)
        right += planted in hits
    assert right / wanted > 0.95 and right / found > 0.95


@given(st.text(max_size=200))
def test_hits_stand_where_they_say_and_do_not_overlap(text):
    hits = find_pii(text)
    assert all(text[hit.start : hit.end] == hit.text for hit in hits)
    assert all(a.end <= b.start for a, b in zip(hits, hits[1:], strict=False))


@given(st.lists(st.integers(0, 9), min_size=12, max_size=18), st.data())
def test_luhn_finds_every_single_wrong_digit(digits, data):
    number = "".join(map(str, digits))
    check = next(d for d in "0123456789" if luhn(number + d))
    right = number + check
    at = data.draw(st.integers(0, len(right) - 1))
    wrong = data.draw(st.sampled_from("0123456789").filter(lambda d: d != right[at]))
    assert luhn(right) and not luhn(right[:at] + wrong + right[at + 1 :])


@pytest.mark.parametrize(
    "text",
    [
        "a@" * 50_000,
        "1 " * 50_000,
        "1." * 50_000,
        ":" * 99_999,
        "-".join(["eyJ" + "a" * 50] * 2000),
        "A0" * 50_000,
    ],
)
def test_hostile_text_takes_linear_time(text):  # fmt: skip
    find_pii(text)
