"""What the server answers when it does not do what was asked."""

__all__ = ["Conflict", "Forbidden", "Missing", "Refusal", "TooMany", "Unknown"]


class Refusal(Exception):
    """A request that is not carried out; `status` is HTTP's."""

    status = 400


class Unknown(Refusal):
    """Nobody knows who asks: no session, or a wrong or expired token."""

    status = 401


class Forbidden(Refusal):
    """It is known who asks, and it is not theirs to do."""

    status = 403


class Missing(Refusal):
    """There is no such thing, or none of the person's own."""

    status = 404


class Conflict(Refusal):
    """Things have changed since the page was loaded."""

    status = 409


class TooMany(Refusal):
    """Too many requests; the person may try again in a while."""

    status = 429
