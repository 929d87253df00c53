"""Renders chat templates, in a process of its own: `rendering` starts it.

A template comes from whoever made a model directory. It runs in Jinja's sandbox, and
the sandbox in a process whose memory and processor time are limited: nothing a
template asks for (a loop without end, `'a' * 10**10`) can hold up or fill the process
that trains.

One line of JSON in, one line of JSON out. This file is run by its path and imports
nothing of the package, so that it starts at once.
"""

import contextlib
import datetime
import functools
import json
import math
import sys

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox
import jinja2.utils

SECONDS = 5  # of processor time, per conversation
MEMORY = 2 << 30  # bytes of address space
LONGEST = 1 << 26  # characters of one rendering


class GenerationBlock(jinja2.ext.Extension):
    """`{% generation %}`: its text is wrapped in the marks that the job names."""

    tags = {"generation"}  # noqa: RUF012 (jinja2 reads it from the class)
    marks = ("", "")

    def parse(self, parser):
        """The block as a call of `_marked`."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_marked")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _marked(self, caller):
        return caller().join(GenerationBlock.marks)


class Namespace(jinja2.utils.Namespace):
    """Jinja's namespace without names that begin with an underscore."""

    def __init__(*args, **kwargs):  # noqa: N805 (`self` may be one of the names)
        self, given = args[0], dict(*args[1:], **kwargs)
        jinja2.utils.Namespace.__init__(self)
        for name, value in given.items():
            self[name] = value

    def __setitem__(self, name, value):
        if str(name).startswith("_"):
            raise jinja2.exceptions.SecurityError(f"namespace: {name!r} is refused")
        super().__setitem__(name, value)


class Dictionary:
    """`dict` for templates: makes dictionaries, and has nothing else to reach."""

    def __call__(self, *args, **kwargs):
        return dict(*args, **kwargs)

    def fromkeys(self, *args):
        """`dict.fromkeys`."""
        return dict.fromkeys(*args)


def refuse(message):
    """`raise_exception(message)` of templates."""
    raise jinja2.exceptions.TemplateError(message)


def to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    """`| tojson`: JSON as it is, where Jinja's own escapes it for HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


@jinja2.pass_context
def _as_it_is(context, value):
    return value


@functools.lru_cache(maxsize=16)
def compiled(source: str):
    """The template in the environment that transformers gives it."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[GenerationBlock, jinja2.ext.loopcontrols],
        # constants are computed as it is rendered, where memory and length are
        # watched; 'x' * 10 ** 9 took 20 seconds in the compiler
        optimized=False,
        finalize=_as_it_is,
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["namespace"] = Namespace
    environment.globals["dict"] = Dictionary()
    return environment.from_string(source)


def rendered(job: dict, count: int, opened: bool) -> str:
    """The template over the first `count` messages, the assistant's turn opened."""
    now = datetime.datetime.fromisoformat(job["now"])
    GenerationBlock.marks = job["marks"]
    pieces, length = [], 0
    for piece in compiled(job["template"]).generate(
        **{
            **job["variables"],
            "messages": job["messages"][:count],
            "tools": job["tools"],
            "documents": job["documents"],
            "add_generation_prompt": opened,
            "strftime_now": now.strftime,
        }
    ):
        pieces.append(piece)
        length += len(piece)
        if length > LONGEST:
            raise MemoryError(f"writes more than {LONGEST} characters")
    return "".join(pieces)


def answer(job: dict) -> list:
    """[text, None] or [None, why not], for each of the job's takes."""
    found = []
    for count, opened in job["takes"]:
        try:
            found.append([rendered(job, count, opened), None])
        except jinja2.exceptions.TemplateSyntaxError as error:
            found.append([None, f"line {error.lineno}: {error.message}"])
        except jinja2.exceptions.TemplateError as error:
            found.append([None, str(error)])
        except MemoryError as error:
            found.append(
                [None, str(error) or f"needs over {MEMORY >> 30} GiB of memory"]
            )
        except RecursionError:
            found.append([None, "nests too deep"])
        except Exception as error:  # whatever a template can provoke
            found.append([None, f"{type(error).__name__}: {error}"])
    return found


def limit_memory() -> None:
    """Bounds the address space, where the system can."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        _lower(resource, resource.RLIMIT_AS, MEMORY)


def limit_time() -> None:
    """Ends the process that uses so many seconds more; where the system can."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        usage = resource.getrusage(resource.RUSAGE_SELF)
        used = math.ceil(usage.ru_utime + usage.ru_stime)
        _lower(resource, resource.RLIMIT_CPU, used + SECONDS)


def _lower(resource, kind, amount: int) -> None:
    hard = resource.getrlimit(kind)[1]
    soft = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
    resource.setrlimit(kind, (soft, hard))


def main() -> None:
    """Answers jobs until there are no more."""
    limit_memory()
    for line in sys.stdin.buffer:
        job = json.loads(line)
        limit_time()
        try:
            reply = json.dumps(answer(job))
        except MemoryError:
            reply = json.dumps([[None, "writes more than fits"]] * len(job["takes"]))
        sys.stdout.buffer.write(reply.encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
