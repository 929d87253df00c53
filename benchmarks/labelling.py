"""How fast the labelling server answers many people at once.

    python benchmarks/labelling.py                       200 people, SQLite
    python benchmarks/labelling.py --people 50 --seconds 20
    python benchmarks/labelling.py --study postgresql://...

People work as the page makes them work: they claim a task, save a draft each time they
have changed something, and send; between two requests each waits `--pause` seconds on
average. One JSON line per kind of request: milliseconds at the 50th, 95th and 99th
percentile, from the first byte sent to the last received; then one for all, with
requests per second, and the processor time of the server per request, which does not
depend on what else the machine is doing. The study is checked afterwards (`verify`).
"""

import argparse
import asyncio
import json
import multiprocessing
import random
import secrets
import socket
import tempfile
import time

from rlhf_jax.labelling.access import add_person
from rlhf_jax.labelling.imports import Batch, CandidateSet, add_batch
from rlhf_jax.labelling.simulate import Caller
from rlhf_jax.labelling.store import open_store

K, DRAFTS = 5, 6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30, help="measured")
    parser.add_argument("--pause", type=float, default=3.0, help="mean, in seconds")
    parser.add_argument("--study", help="a database; a new file where not given")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = args.study or f"{folder}/study"
        store = open_store(place)
        prepare(store)
        names = [f"{secrets.token_hex(4)}-{n}" for n in range(args.people)]
        tokens = [add_person(store, name)[1] for name in names]
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        used = multiprocessing.Value("d", 0.0)
        process = multiprocessing.Process(target=serve, args=(place, port, used))
        process.start()
        headers = [signed_in(port, token) for token in tokens]
        before = used.value
        times = asyncio.run(crowd(port, headers, args))
        spent = used.value - before
        process.terminate()
        process.join()
        problems = store.verify()
        store.close()
    tell(times, spent, args, problems)


def prepare(store) -> None:
    """More sets than can be ranked meanwhile."""
    texts = [f"Response {i}: " + "words and words " * 30 for i in range(K)]
    rows = [
        CandidateSet(id=str(n), prompt=f"Prompt {n}?", responses=texts)
        for n in range(2000)
    ]
    add_batch(store, Batch(name=secrets.token_hex(4), overlap=5), rows)


def serve(place: str, port: int, used) -> None:
    """The server, in a process of its own that tells its processor time."""
    import threading

    from rlhf_jax.labelling.serving import serve as serve_app
    from rlhf_jax.labelling.web.app import create_app

    def watch() -> None:
        while True:
            used.value = time.process_time()
            time.sleep(0.1)

    threading.Thread(target=watch, daemon=True).start()
    app = create_app(open_store(place), login_rate=(1e9, 1e9), request_rate=(1e9, 1e9))
    serve_app(app, "127.0.0.1", port)


def signed_in(port: int, token: str) -> str:
    """The headers of a person's session."""
    caller = Caller(f"http://127.0.0.1:{port}", token)
    while True:
        try:
            caller.sign_in()
            break
        except OSError:
            caller.close()
            time.sleep(0.1)
    caller.close()
    return "".join(f"{k}: {v}\r\n" for k, v in caller._headers.items())


async def crowd(port: int, headers: list[str], args) -> dict[str, list[float]]:
    """Everybody at work; kind of request -> milliseconds of each."""
    times: dict[str, list[float]] = {"claim": [], "draft": [], "submit": []}
    end = time.monotonic() + args.seconds
    await asyncio.gather(
        *(
            person(port, head, args.pause, end, times, n)
            for n, head in enumerate(headers)
        )
    )
    return times


async def person(port, headers, pause, end, times, number) -> None:
    """One person's day: claim, drafts, send, and again."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    dice = random.Random(number)

    async def ask(kind: str, method: str, path: str, body) -> dict:
        await asyncio.sleep(dice.expovariate(1 / pause))
        text = json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{headers}"
        start = time.perf_counter()
        writer.write(f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text)
        status = int((await reader.readline()).split()[1])
        length = 0
        while (line := await reader.readline()) != b"\r\n":
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        reply = await reader.readexactly(length)
        times[kind].append(1000 * (time.perf_counter() - start))
        if status != 200:
            raise SystemExit(f"{path}: {status} {reply[:200]!r}")
        return json.loads(reply)

    while time.monotonic() < end:
        task = (await ask("claim", "POST", "/api/claim", {}))["task"]
        path = f"/api/tasks/{task['id']}"
        slots = [{"rank": n % 3 + 1, "fields": {"likert": 4}} for n in range(K)]
        slots = slots[: len(task["item"]["texts"])]
        version = task["draft"]["version"]
        for _ in range(DRAFTS):
            draft = {"version": version, "content": {"slots": slots}}
            version = (await ask("draft", "PUT", f"{path}/draft", draft))["version"]
        sent = {"token": secrets.token_hex(16), "content": {"slots": slots}}
        await ask("submit", "POST", f"{path}/submit", sent)
    writer.close()


def tell(times, spent: float, args, problems: list[str]) -> None:
    """The figures, one JSON line each."""
    every = [value for kind in times.values() for value in kind]
    for name, values in (*times.items(), ("all", every)):
        values = sorted(values)
        at = {
            f"p{p}_ms": round(values[min(len(values) - 1, len(values) * p // 100)], 1)
            for p in (50, 95, 99)
        }
        line = {"figure": f"labelling {name}", "people": args.people, **at}
        line["requests"] = len(values)
        if name == "all":
            line["per_second"] = round(len(values) / args.seconds, 1)
            line["server_cpu_ms"] = round(1000 * spent / len(values), 2)
            line["problems"] = len(problems)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
