"""Language models and scorers behind HTTP, with the standard library only.

`EndpointJudge` asks any server that speaks the OpenAI chat-completions protocol which
of two responses is better. `perspective_scorer` asks a server that speaks Perspective's
comment-analysis protocol how toxic a text is. Requests are repeated on timeouts, 429
and 5xx with growing pauses; a verdict that cannot be read is an error, never a guess.
"""

import concurrent.futures
import dataclasses
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence

import numpy as np

from rlhf_jax.errors import InputError, RunError

JUDGE_PROMPT = """\
A customer sent this request to an assistant:

<request>
{prompt}
</request>

Two assistants answered.

<answer_A>
{first}
</answer_A>

<answer_B>
{second}
</answer_B>

Which answer would you rather receive? Judge whether it does what was asked, whether \
it is true, and whether it is harmless; length alone is no merit. Finish with one line \
that reads "Verdict: A", "Verdict: B" or "Verdict: tie"."""

_VERDICT = re.compile(r"verdict\W*(a|b|tie)\b", re.IGNORECASE)
_VALUES = {"a": 1.0, "b": 0.0, "tie": 0.5}


def post_json(
    url: str,
    body: dict,
    *,
    headers: dict[str, str] | None = None,
    timeout: float = 60.0,
    attempts: int = 4,
    pause: float = 1.0,
) -> dict:
    """POSTs JSON and reads the JSON answer.

    Args:
      url: where.
      body: what.
      headers: besides the content type.
      timeout: seconds for one attempt.
      attempts: tries before giving up, on timeouts, refused connections, 429 and 5xx.
      pause: seconds before the second try; doubled for each one after it.

    Raises:
      RunError: the server refuses, stays silent, or answers with something else.
    """
    request = urllib.request.Request(
        url,
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", **(headers or {})},
    )
    for attempt in range(1, attempts + 1):
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code}: {error.read()[:200].decode(errors='replace')}"
            again = error.code == 429 or error.code >= 500
        except json.JSONDecodeError as error:
            reason, again = f"the answer is not JSON: {error}", False
        except OSError as error:  # refused, reset, timed out
            reason, again = str(error), True
        if not again or attempt == attempts:
            raise RunError(f"{url}: {reason} (attempt {attempt})")
        time.sleep(pause * 2 ** (attempt - 1))
    raise AssertionError("unreachable")


def bearer(key_variable: str | None) -> dict[str, str]:
    """The authorisation header from an environment variable; none when not asked.

    Raises:
      InputError: the variable is named but not set.
    """
    if not key_variable:
        return {}
    if not os.environ.get(key_variable):
        raise InputError(f"the environment variable {key_variable} is not set")
    return {"Authorization": f"Bearer {os.environ[key_variable]}"}


@dataclasses.dataclass(frozen=True)
class EndpointJudge:
    """A judge that asks a chat model; call it as `judge(prompts, first, second)`.

    Attributes:
      url: base of the API, such as `http://127.0.0.1:8000/v1`.
      model: its name there.
      key_variable: environment variable with the key; None: no key is sent.
      template: text with {prompt}, {first} and {second}, ending in "Verdict: ...".
      max_tokens: of the answer.
      workers: requests at once.
      timeout, attempts, pause: as for `post_json`.
    """

    url: str
    model: str
    key_variable: str | None = None
    template: str = JUDGE_PROMPT
    max_tokens: int = 512
    workers: int = 8
    timeout: float = 60.0
    attempts: int = 4
    pause: float = 1.0

    def __call__(
        self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str]
    ) -> np.ndarray:
        """[N] 1 where the first is preferred, 0 the second, 0.5 tie."""
        headers = bearer(self.key_variable)
        with concurrent.futures.ThreadPoolExecutor(self.workers) as pool:
            verdicts = pool.map(
                lambda pair: self.verdict(*pair, headers=headers),
                zip(prompts, first, second, strict=True),
            )
            return np.array(list(verdicts))

    def verdict(
        self, prompt: str, first: str, second: str, *, headers: dict[str, str]
    ) -> float:
        """The verdict on one pair in the order given."""
        fields = {"prompt": prompt, "first": first, "second": second}
        # one pass, so that braces inside a response are left alone
        text = re.sub(
            r"\{(prompt|first|second)\}", lambda m: fields[m[1]], self.template
        )
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": text}],
            "temperature": 0,
            "max_tokens": self.max_tokens,
        }
        answer = post_json(
            f"{self.url.rstrip('/')}/chat/completions",
            body,
            headers=headers,
            timeout=self.timeout,
            attempts=self.attempts,
            pause=self.pause,
        )
        try:
            content = answer["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            raise RunError(f"{self.url}: no choices[0].message.content") from None
        found = _VERDICT.findall(content or "")
        if not found:
            raise RunError(f"{self.url}: no verdict in {str(content)[-200:]!r}")
        return _VALUES[found[-1].lower()]


def perspective_scorer(
    url: str, *, key_variable: str | None = None, **options
) -> Callable[[Sequence[str]], np.ndarray]:
    """A toxicity scorer: texts [N] -> probabilities [N] from an HTTP service.

    Args:
      url: the comment-analysis method, `.../v1alpha1/comments:analyze`.
      key_variable: environment variable with the key.
      options: as for `post_json`.
    """

    def score(texts: Sequence[str]) -> np.ndarray:
        headers = bearer(key_variable)
        scores = []
        for text in texts:
            body = {
                "comment": {"text": text},
                "languages": ["en"],
                "requestedAttributes": {"TOXICITY": {}},
            }
            answer = post_json(url, body, headers=headers, **options)
            try:
                summary = answer["attributeScores"]["TOXICITY"]["summaryScore"]
                scores.append(float(summary["value"]))
            except (KeyError, TypeError, ValueError):
                raise RunError(f"{url}: no TOXICITY score in the answer") from None
        return np.array(scores)

    return score
