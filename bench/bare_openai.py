"""A baseline: what everybody writes first. `python -m bench.bare_openai CONCURRENCY FILE`

FILE holds a body a line; OPENAI_BASE_URL and OPENAI_API_KEY say where to send them. Prints its own figures as JSON;
what it cost to start, to read the file and to open the connections is not among them.
"""

import asyncio
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI


async def main() -> None:
    concurrency, path = int(sys.argv[1]), Path(sys.argv[2])
    bodies: list[dict[str, Any]] = [json.loads(line) for line in path.read_bytes().splitlines()]
    # As bare as can be, but for the time to connect: 5 s are too few for 1,024 connections at once, and it would
    # end with an APITimeoutError.
    client = AsyncOpenAI(timeout=600)
    semaphore = asyncio.Semaphore(concurrency)

    async def call(body: dict[str, Any]) -> str | None:
        async with semaphore:
            completion = await client.chat.completions.create(**body)
        answer: str | None = completion.choices[0].message.content
        return answer

    await asyncio.gather(*map(call, bodies[:concurrency]))
    began, cpu = time.perf_counter(), _cpu_seconds()
    answers = await asyncio.gather(*map(call, bodies))
    figures = {
        "calls": sum(answer is not None for answer in answers),
        "seconds": time.perf_counter() - began,
        "cpu_seconds": _cpu_seconds() - cpu,
    }
    print(json.dumps(figures))


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    asyncio.run(main())
