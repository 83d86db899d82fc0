"""A large file of JSON lines uploaded, against a bare Flask route that saves it; and the memory that web takes."""

import socket
import time

from bench import bare_route
from bench.cpu import cpu_seconds
from bench.figures import Figure
from bench.memory import MIB, Growth
from bench.rig import scaled, started, tell

FILE_MIB = 1024
WARM_UP_MIB = 16
ASKED_GROWTH_MIB = 64
BOUNDARY = "----------------------------6a3c0f9b1d2e4758"
LINE = (
    b'{"custom_id": "review-0000001", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "sim", '
    b'"messages": [{"role": "user", "content": "Classify the sentiment of this review: the lid does not close."}]}}\n'
)


def upload() -> list[Figure]:
    size = scaled(FILE_MIB)
    with started(workers=0) as rig:
        key = rig.authorization["Authorization"]
        ours, our_cpu, growth = _measure(rig.stack.port, rig.pid("web"), key, size)
        stored = [path.stat().st_size for path in (rig.stack.home.path / "storage").rglob("*") if path.is_file()]
        if sorted(stored) != [len(_piece()) * WARM_UP_MIB, len(_piece()) * size]:
            raise RuntimeError(f"what is stored has other sizes than what was sent: {stored}")
        rig.wait_idle()
        with bare_route.running(rig.stack.env) as (process, port):
            bare, bare_cpu, _ = _measure(port, process.pid, key, size)
    return [
        Figure(f"upload: {size:,} MiB of JSON lines", ours, "MiB/s", baseline=bare, ratio_at_least=2),
        Figure("upload: CPU for a GiB, web", our_cpu, "s", baseline=bare_cpu),
        Figure("upload: growth of RSS, web", growth, "MiB", value_below=ASKED_GROWTH_MIB),
    ]


def _measure(port: int, pid: int, key: str, size: int) -> tuple[float, float, float]:
    """MiB a second, CPU seconds for a GiB, and MiB that the worst web process grew by."""
    _send(port, key, WARM_UP_MIB)
    before = cpu_seconds(pid)
    with Growth(web=pid) as growth:
        began = time.perf_counter()
        _send(port, key, size)
        seconds = time.perf_counter() - began
    cpu = cpu_seconds(pid) - before
    tell(f"  {size} MiB up in {seconds:.2f} s, {cpu:.2f} s of CPU, {growth.of('web'):.0f} MiB more memory")
    return size / seconds, cpu * 1024 / size, growth.of("web")


def _send(port: int, key: str, size: int) -> None:
    """From a bare socket: on two cores a client that works would be measured too."""
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="lines.jsonl"\r\n\r\n'
    ).encode()
    tail = f"\r\n--{BOUNDARY}--\r\n".encode()
    piece = _piece()
    request = (
        f"POST /v1/files HTTP/1.1\r\nHost: bench\r\nAuthorization: {key}\r\nConnection: close\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        f"Content-Length: {len(head) + len(piece) * size + len(tail)}\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(request + head)
        for _ in range(size):
            connection.sendall(piece)
        connection.sendall(tail)
        answer = connection.recv(1024)
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"the upload was not taken: {answer.decode(errors='replace')}")


def _piece() -> bytes:
    """About a MiB of whole lines."""
    return LINE * (MIB // len(LINE))
