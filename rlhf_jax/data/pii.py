"""Personal data in text, found by patterns and, where there is one, a checksum.

Ouyang et al. 2022 (§3.2) filtered prompts with personally identifiable information
from the training split; how, they do not say. These patterns are ours. They find what
has a form (an address, a number, a key), and cannot find what has none (a name).
"""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Hit", "find_pii", "luhn"]


@dataclass(frozen=True)
class Hit:
    """One piece of personal data: its kind and where it stands."""

    kind: str
    start: int
    end: int
    text: str


_OCTET = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_PATTERNS = {
    "email": r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[A-Za-z]{2,24}\b",
    "key": (
        r"\b(?:sk|pk|rk)[-_](?:live|test|proj|ant)?[-_]?[A-Za-z0-9_-]{20,200}\b"
        r"|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36,255}\b"
        r"|\bhf_[A-Za-z0-9]{30,40}\b|\bAIza[0-9A-Za-z_-]{35}\b"
        r"|\bxox[abprs]-[0-9A-Za-z-]{10,200}"
        r"|\beyJ[\w-]{10,2000}\.[\w-]{10,2000}\.[\w-]{10,2000}"
        r"|-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----"
    ),
    "card": r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-]|\.\d)",
    "iban": r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b",
    "ssn": r"(?<![\w-])(?!000|666|9\d\d)\d{3}([- ])(?!00)\d{2}\1(?!0000)\d{4}(?![\w-])",
    "ip": (
        rf"(?<![\w.])(?:{_OCTET}\.){{3}}{_OCTET}(?![\w]|\.\d)"
        r"|(?<![\w:])(?:[0-9A-Fa-f]{1,4}:|::)(?:[0-9A-Fa-f]{0,4}:){1,7}"
        r"[0-9A-Fa-f]{0,4}(?![\w:])"
    ),
    "phone": (
        r"(?<![\w.+-])(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}"
        r"(?:[ .-]?\d{2,4}){2,4}"
        r"|(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4})(?![\w-]|\.\d)"
    ),
}
_COMPILED = {kind: re.compile(pattern) for kind, pattern in _PATTERNS.items()}


def find_pii(text: str) -> list[Hit]:
    """Every piece of personal data, in the order of the text, none overlapping.

    >>> [(h.kind, h.text) for h in find_pii("Mail a.b@example.org or +1 415 555 0132.")]
    [('email', 'a.b@example.org'), ('phone', '+1 415 555 0132')]
    >>> find_pii("In 2024 it had 1,234,567 inhabitants; version 1.2.3.")
    []

    Args:
      text: anything; time is linear in its length.

    Returns:
      Hits of the kinds email, key, card (Luhn), iban (mod 97), ssn, ip, phone.
    """
    hits: list[Hit] = []
    taken = bytearray(len(text))  # 1 where a hit is
    for hit in _candidates(text):
        if not any(taken[hit.start : hit.end]):
            taken[hit.start : hit.end] = b"\x01" * (hit.end - hit.start)
            hits.append(hit)
    return sorted(hits, key=lambda hit: hit.start)


def _candidates(text: str) -> Iterator[Hit]:
    """Matches that pass their check, kinds in order of how sure they are."""
    if "@" not in text and not re.search(r"\d|-----BEGIN|_|-|::", text):
        return
    for kind, pattern in _COMPILED.items():
        for match in pattern.finditer(text):
            if _CHECKS.get(kind, bool)(match.group()):
                yield Hit(kind, match.start(), match.end(), match.group())


def luhn(digits: str) -> bool:
    """Whether a card number's check digit is right (ISO/IEC 7812-1, annex B).

    >>> luhn("4111 1111 1111 1111"), luhn("4111 1111 1111 1112")
    (True, False)
    """
    numbers = [int(c) for c in reversed(digits) if c.isdigit()]
    doubled = [sum(divmod(2 * n, 10)) for n in numbers[1::2]]
    return len(numbers) > 1 and (sum(numbers[::2]) + sum(doubled)) % 10 == 0


def _card(text: str) -> bool:
    digits = [c for c in text if c.isdigit()]
    return luhn(text) and len(set(digits)) > 1 and digits[0] in "23456"


def _iban(text: str) -> bool:
    """ISO 13616: letters as numbers, the first four behind, remainder 1 of 97."""
    compact = text.replace(" ", "")
    moved = compact[4:] + compact[:4]
    return (
        15 <= len(compact) <= 34
        and int("".join(str(int(c, 36)) for c in moved)) % 97 == 1
    )


def _address(text: str) -> bool:
    """A real address that belongs to somebody: not loopback, unspecified or a mask."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    local = address.is_loopback or address.is_unspecified or address.is_multicast
    return not local and not text.startswith("255.")


def _phone(text: str) -> bool:
    return 8 <= sum(c.isdigit() for c in text) <= 15


_CHECKS = {"card": _card, "iban": _iban, "ip": _address, "phone": _phone}
