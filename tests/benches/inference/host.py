"""The Lambda Runtime API on 127.0.0.1, for one function's process, and the events of its function URL."""

import base64
import contextlib
import json
import queue
import socket
import subprocess
import threading
import time
import uuid
from pathlib import Path

PREFIX = "/2018-06-01/runtime"
LONGEST_SECONDS = 120
CLOCK_TICKS = 100
ARN = "arn:aws:lambda:eu-west-1:111122223333:function:f"


def event(path: str, content_type: str, body: bytes) -> bytes:
    """A function URL's event (payload format 2.0)."""
    host = "f.lambda-url.eu-west-1.on.aws"
    return json.dumps(
        {
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": path,
            "rawQueryString": "",
            "headers": {"content-type": content_type, "host": host},
            "requestContext": {
                "accountId": "anonymous",
                "apiId": "f",
                "domainName": host,
                "domainPrefix": "f",
                "http": {
                    "method": "POST",
                    "path": path,
                    "protocol": "HTTP/1.1",
                    "sourceIp": "192.0.2.1",
                    "userAgent": "bench",
                },
                "requestId": "r",
                "routeKey": "$default",
                "stage": "$default",
                "time": "12/Mar/2026:19:03:58 +0000",
                "timeEpoch": 1773342238000,
            },
            "isBase64Encoded": True,
            "body": base64.b64encode(body).decode(),
        }
    ).encode()


class Function:
    """A function's process and its Runtime API. Use it in a `with`: leaving ends the process."""

    def __init__(self, command: list[str], environment: dict[str, str], folder: Path, log: Path):
        self._events: queue.Queue[bytes] = queue.Queue()
        self._answers: queue.Queue[tuple[float, str, bytes]] = queue.Queue()
        self._given = 0.0
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()
        address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.log = log
        with log.open("wb") as out:
            self.started = time.perf_counter()
            self._process = subprocess.Popen(
                command,
                env=environment | {"AWS_LAMBDA_RUNTIME_API": address},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def invoke(self, sent: bytes) -> tuple[dict, float, float]:
        """The answer's body, the seconds from handing the event out to the answer, and when it came."""
        self._events.put(sent)
        deadline = time.monotonic() + LONGEST_SECONDS
        while True:
            try:
                ended, kind, body = self._answers.get(timeout=1)
                break
            except queue.Empty:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"no answer; the function's log is {self.log}") from None
        answer = json.loads(body)
        if kind != "response" or answer.get("statusCode") != 200:
            raise RuntimeError(f"{kind}: {body[:500]!r}; the function's log is {self.log}")
        return json.loads(answer["body"]), ended - self._given, ended

    def peak_mib(self) -> float:
        """The most memory that the process and its children had resident, each at its own time."""
        return sum(self._status(pid, "VmHWM") for pid in self._tree()) / 1024

    def processor_seconds(self) -> float:
        """What the process and its children have used of the processors."""
        total = 0
        for pid in self._tree():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / CLOCK_TICKS

    def _tree(self) -> list[int]:
        found = [self._process.pid]
        for pid in found:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            found.extend(int(child) for child in children)
        return found

    @staticmethod
    def _status(pid: int, key: str) -> int:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))

    def _serve(self, connection: socket.socket) -> None:
        """The requests of one connection. By hand: http.server takes a third of a millisecond for each,
        which would be half of what an embedding is measured to take."""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, connection.makefile("rb") as sent:
            # A process that is ended resets its connection.
            with contextlib.suppress(OSError, ValueError):
                while line := sent.readline():
                    method, path, _ = line.decode().split()
                    body = self._body(sent)
                    ended = time.perf_counter()
                    if method == "POST":
                        connection.sendall(reply("202 Accepted", b"{}"))
                        self._answers.put((ended, path.rpartition("/")[2], body))
                    elif path == f"{PREFIX}/invocation/next":
                        event = self._events.get()
                        headers = {
                            "Lambda-Runtime-Aws-Request-Id": str(uuid.uuid4()),
                            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + LONGEST_SECONDS) * 1000)),
                            "Lambda-Runtime-Invoked-Function-Arn": ARN,
                        }
                        answer = reply("200 OK", event, headers)
                        self._given = time.perf_counter()
                        connection.sendall(answer)
                    else:
                        connection.sendall(reply("404 Not Found", b"{}"))

    @staticmethod
    def _body(sent) -> bytes:
        """The rest of a request: its headers, and the body, which may come in chunks."""
        length, chunked = 0, False
        while (line := sent.readline().strip()) != b"":
            name, _, value = line.lower().partition(b":")
            if name == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding":
                chunked = b"chunked" in value
        if not chunked:
            return sent.read(length)
        parts = []
        while size := int(sent.readline().split(b";")[0], 16):
            parts.append(sent.read(size))
            sent.readline()
        while sent.readline().strip():
            pass
        return b"".join(parts)


def reply(status: str, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
