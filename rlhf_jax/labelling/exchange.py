"""The pipeline's side: sets of responses out to people, their rankings back.

`label:DIR_OR_DATABASE` works on the database itself, whether or not its server runs at
that moment; `label:http://HOST` through the server, with a researcher's token in the
environment variable `RLHF_JAX_LABEL_TOKEN`.
"""

import json
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from pydantic import ValidationError

from rlhf_jax.data.records import Prompt, Ranking
from rlhf_jax.errors import InputError
from rlhf_jax.feedback import Asked, People
from rlhf_jax.labelling import schema
from rlhf_jax.labelling.exports import answers_as_of, records_of, talks
from rlhf_jax.labelling.imports import Batch, CandidateSet, add_batch
from rlhf_jax.labelling.store import Store, digest_of, open_store

__all__ = ["PeopleLabelers", "collect", "open_labelers", "publish", "standing"]

_log = logging.getLogger(__name__)
TOKEN = "RLHF_JAX_LABEL_TOKEN"


def publish(store: Store, batch: dict[str, Any], rows: Sequence[dict[str, Any]]) -> int:
    """Puts sets of responses before people; the same ones again change nothing.

    Args:
      store: the study.
      batch: settings of `imports.Batch`.
      rows: `CandidateSet` rows.

    Raises:
      InputError: settings or rows that are not valid, by field.
    """
    try:
        settings = Batch(**batch)
        records = [CandidateSet.model_validate(row) for row in rows]
    except TypeError as error:
        raise InputError(f"batch: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise InputError(f"rows: {field}: {first['msg']}") from error
    return add_batch(store, settings, records)


def standing(store: Store, name: str) -> dict[str, Any]:
    """How far a batch is.

    Returns:
      `items`, `complete` (items with all their answers), `answers`, `age` in seconds;
      `items` is 0 where there is no batch of this name.
    """
    slots, batches, assignments = schema.slots, schema.batches, schema.assignments
    done = sa.func.sum(sa.case((assignments.c.state == "done", 1), else_=0))
    query = (
        sa.select(slots.c.items_id, sa.func.count(), done)
        .join(batches, batches.c.id == slots.c.batches_id)
        .outerjoin(assignments, assignments.c.id == slots.c.assignment)
        .where(batches.c.name == name)
        .group_by(slots.c.items_id)
    )
    with store.read() as connection:
        rows = connection.execute(query).all()
        made = sa.select(batches.c.created_at).where(batches.c.name == name)
        since = connection.scalar(made)
    return {
        "items": len(rows),
        "complete": sum(row[1] == row[2] for row in rows),
        "answers": sum(int(row[2] or 0) for row in rows),
        "age": 0.0 if since is None else store.clock() - since,
    }


def collect(store: Store, name: str) -> list[dict[str, Any]]:
    """Every person's ranking of a batch, late ones too, as `Ranking` rows."""
    with store.read() as connection:
        rows = answers_as_of(connection, store.last_event(connection), batch=name)
        said = talks(connection)
        found = [
            record
            for row in rows
            if row.purpose in {"work", "adjudication"}
            for record in records_of(row, said.get(row.assignment, []))
        ]
    return [
        record.model_dump(mode="json", exclude_defaults=True)
        for record in found
        if isinstance(record, Ranking)
    ]


class PeopleLabelers(People):
    """Everybody behind a labelling server, as one side of a `candidates` stage."""

    def require(
        self,
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[str]],
        asked: Asked,
    ) -> None:
        """Publishes the sets, once, and takes their rankings when there are enough.

        Raises:
          InputError: people have not ranked enough yet; says how many sets wait, and
            where.
        """
        rows = [
            {**prompt.model_dump(exclude_defaults=True), "responses": list(texts)}
            for prompt, texts in zip(prompts, responses, strict=True)
        ]
        name = f"candidates-{digest_of([rows, asked.overlap])[:12]}"
        found = self._call("publish", name, overlap=asked.overlap, rows=rows)
        hours = found["age"] / 3600
        late = asked.deadline_hours is not None and hours >= asked.deadline_hours
        waiting = found["items"] - found["complete"]
        enough = found["complete"] >= asked.quorum * found["items"]
        if not enough and not (late and found["answers"]):
            raise InputError(
                f"{waiting} of {found['items']} sets of responses wait for people in "
                f"{self.where} (batch {name}): they rank them there while "
                "`rlhf-jax label` serves; run this again when they have"
            )
        if waiting:
            _log.warning("%d sets have fewer than %d rankings", waiting, asked.overlap)
        answered = self._call("collect", name)["rows"]
        self.add(Ranking.model_validate(row) for row in answered)

    def _call(self, action: str, name: str, **values: Any) -> dict[str, Any]:
        body = {"name": name, **values}
        if self.where.startswith(("http://", "https://")):
            return _post(self.where, action, body)
        store = open_store(self.where)
        try:
            return act(store, action, body)
        finally:
            store.close()


def act(store: Store, action: str, body: dict[str, Any]) -> dict[str, Any]:
    """What the pipeline asks of a study: "publish" or "collect".

    Raises:
      InputError: something is missing in `body`.
    """
    name = body.get("name")
    if not isinstance(name, str):
        raise InputError("name: expected the name of a batch")
    if action == "collect":
        return {"rows": collect(store, name)}
    rows = body.get("rows")
    if not isinstance(rows, list):
        raise InputError("rows: expected a list of sets")
    batch = {"name": name, "overlap": body.get("overlap", 1), **body.get("batch", {})}
    publish(store, batch, rows)
    return standing(store, name)


def _post(address: str, action: str, body: dict[str, Any]) -> dict[str, Any]:
    token = os.environ.get(TOKEN)
    if not token:
        raise InputError(
            f"labelers label:{address}: set {TOKEN} to a researcher's token"
        )
    request = urllib.request.Request(
        f"{address.rstrip('/')}/exchange/{action}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=300) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as error:
        said = error.read(2000).decode("utf-8", "replace")
        raise InputError(f"{address}: {error.code}: {said}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{address}: no labelling server answers ({error})") from error


def open_labelers(where: str) -> list[PeopleLabelers]:
    """What `feedback.load_labelers` gives for `label:WHERE`."""
    return [PeopleLabelers(where)]
