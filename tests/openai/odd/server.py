"""A server that answers at /MODE/LOAD/v1, each mode with its own oddities: options by mode come as a JSON file.

Every time and count is chosen, so that what a client should measure is known. Standard library only; see `Mode` in
`modes.py` for how the options read. Modes with `own_port` have a port for each load; all ports are written, as JSON, in
one line.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any

DEFAULTS: dict[str, Any] = {
    # times and tokens
    "ttft": 0.1, "itl": 0.04, "jitter": [], "cache": False,
    "per_chunk": 1, "pieces": 1, "eos": 0, "more": 0, "slots": 0,
    # what an event holds
    "field": "content", "text": "w ", "held": 0, "empties": 0, "role_first": False, "twice": False, "choices": "list",
    "finish": "length", "model": "odd", "extra": {}, "reasoning": 0,
    # usage: where it stands, and what it says
    "usage": "final", "completion": None, "completion_add": 0, "prompt_add": 0, "usage_extra": {}, "uncounted": 0,
    # the stream
    "sse": "plain", "done": "once", "http": "chunked", "head": [], "type": "text/event-stream", "before": "",
    # faults: of every request, of each `every`th after `spare`, or of those beyond `beyond` in flight
    "status": 0, "body": "", "fault": "", "every": 1, "spare": 0, "beyond": 0,
    # connections and pages
    "close_after": 0, "idle_s": 0.0, "most": 0, "models": None, "models_status": 200, "health": 200,
    "own_port": False, "dies_after": 0, "back_s": 0.0,
}  # fmt: skip
HUGE = 2_000_000


class Site:
    """One mode under one load: its counts are its own."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.__dict__.update(DEFAULTS, **options)
        self.requests = self.in_flight = self.connections = 0
        self.slot = asyncio.Semaphore(self.slots or 10**6)
        self.seen: set[tuple[int, ...]] = set()

    def cached(self, ids: tuple[int, ...]) -> int:
        """Tokens of a prompt that were there before, by blocks of 16; the last block never counts."""
        hit = 0
        for end in range(16, len(ids), 16):
            if ids[:end] in self.seen:
                hit = end
            self.seen.add(ids[:end])
        return hit if self.cache else 0

    def __getattr__(self, name: str) -> Any:  # for the reader: every option of DEFAULTS is an attribute
        raise AttributeError(name)

    def is_bad(self, number: int) -> bool:
        """Whether the fault is this request's."""
        if self.beyond:
            return self.in_flight > self.beyond
        return number > self.spare and (number - self.spare) % self.every == 0


class Dead(Exception):
    """The server of this mode is no more."""


class Server:
    def __init__(self, modes: dict[str, dict[str, Any]]) -> None:
        self.modes = modes
        self.sites: dict[str, Site] = {}
        self.writers: dict[str, set[asyncio.StreamWriter]] = {}
        self.own: dict[str, tuple[asyncio.Server, int]] = {}
        self.log: list[dict[str, Any]] = []
        self.leaks: list[str] = []

    def site(self, mode: str, load: str) -> Site:
        return self.sites.setdefault(f"{mode}/{load}", Site(self.modes[mode]))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, own: str = "") -> None:
        """One connection, of whatever mode it asks for first."""
        self.writers.setdefault(own, set()).add(writer)
        answered, counted = 0, None
        try:
            while True:
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), self.idle_s(answered, counted))
                line, *headers = head.decode().split("\r\n")
                method, path, _ = line.split(" ")
                fields = {name.lower(): value for name, _, value in (one.partition(": ") for one in headers if one)}
                raw = await reader.readexactly(int(fields.get("content-length", 0)))
                if path.startswith("/log"):
                    await plain(writer, 200, json.dumps({"log": self.log, "leaks": self.leaks}))
                    continue
                if path.startswith("/elsewhere"):
                    self.leaks.append(fields.get("authorization", ""))
                    await plain(writer, 200, "{}")
                    continue
                _, mode, load, page = path.split("/", 3)
                site = self.site(mode, load)
                if counted is None:
                    counted = site
                    site.connections += 1
                    if site.most and site.connections > site.most:
                        return
                if method == "GET":
                    await self.page(site, writer, page)
                    continue
                await self.answer(site, f"{mode}/{load}", writer, page, json.loads(raw))
                answered += 1
                if (site.close_after and answered >= site.close_after) or site.http in ("close", "announced"):
                    return
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError, asyncio.LimitOverrunError):
            pass
        except Dead:
            await self.die(own)
        finally:
            self.writers[own].discard(writer)
            if counted is not None:
                counted.connections -= 1
            writer.close()

    @staticmethod
    def idle_s(answered: int, site: Site | None) -> float | None:
        return site.idle_s if site is not None and answered and site.idle_s else None

    async def die(self, own: str) -> None:
        """Nothing listens on this port any more; for a while, or for good."""
        server, port = self.own[own]
        server.close()
        for writer in list(self.writers[own]):
            writer.transport.abort()
        back_s = self.modes[own.partition("/")[0]].get("back_s")
        if back_s:
            await asyncio.sleep(back_s)
            await self.listen(own, port)

    async def listen(self, own: str = "", port: int = 0) -> int:
        server = await asyncio.start_server(
            lambda reader, writer: self.serve(reader, writer, own), "127.0.0.1", port, limit=2**24
        )
        found: int = server.sockets[0].getsockname()[1]
        self.own[own] = (server, found)
        return found

    async def page(self, site: Site, writer: asyncio.StreamWriter, page: str) -> None:
        if page == "health":
            return await plain(writer, site.health, "{}")
        if page == "v1/models":
            listed = site.models if site.models is not None else [{"id": "odd", "object": "model"}]
            if listed == "huge":
                listed = [{"id": "odd", "object": "model", "more": "x" * HUGE}]
            return await plain(writer, site.models_status, json.dumps({"object": "list", "data": listed}))
        return await plain(writer, 404, "{}")

    async def answer(self, site: Site, name: str, writer: asyncio.StreamWriter, page: str, body: dict) -> None:
        began = time.monotonic_ns()
        site.requests += 1
        number = site.requests
        if site.dies_after and number > site.dies_after:
            site.requests = -(10**6)  # it does so once
            raise Dead
        site.in_flight += 1
        try:
            async with site.slot:
                answer = Stream(site, writer, page, body, number)
                await answer.run()
            self.log.append(
                {"site": name, "began_ns": began, "first_ns": answer.first_ns, "last_ns": answer.last_ns,
                 "tokens": answer.sent, "ended_ns": time.monotonic_ns()}
            )  # fmt: skip
        finally:
            site.in_flight -= 1


class Stream:
    """One answer."""

    def __init__(self, site: Site, writer: asyncio.StreamWriter, page: str, body: dict, number: int) -> None:
        self.site, self.writer, self.body, self.number = site, writer, body, number
        self.chat = "chat" in page
        self.bad = site.is_bad(number)
        asked = body["max_tokens"]
        self.total = (min(asked, site.eos) if site.eos else asked) + site.more
        prompt = body.get("prompt") or "".join(str(one["content"]) for one in body.get("messages", ()))
        ids = tuple(prompt if isinstance(prompt, list) else prompt.encode())
        self.prompt, self.cached = len(ids) + site.prompt_add, site.cached(ids)
        self.sent = self.first_ns = self.last_ns = 0
        self.opened = False

    async def run(self) -> None:
        site, bad = self.site, self.bad
        if bad and site.status:
            await self.refuse()
            return
        if bad and site.fault == "hang_before":
            await asyncio.sleep(600)
        if site.http == "json" or not self.body.get("stream"):
            await self.whole()
            return
        if site.http == "length":
            await self.at_once()
            return
        await self.open()
        if bad and site.fault == "hang_headers":
            await asyncio.sleep(600)
        if site.role_first:
            await self.event(self.chunk({"role": "assistant", "content": ""}, 0))
        if await self.tokens():
            await self.close()

    async def refuse(self) -> None:
        site = self.site
        body = site.body or json.dumps({"error": {"message": f"odd says no to {self.body.get('model')}"}})
        kind = "text/html" if body.startswith("<") else "application/json"
        head = "".join(f"{one}\r\n" for one in site.head)
        data = body.encode()
        self.writer.write(
            f"HTTP/1.1 {site.status} X\r\ncontent-type: {kind}\r\n{head}content-length: {len(data)}\r\n\r\n".encode()
            + data
        )
        await self.writer.drain()

    async def tokens(self) -> bool:
        """Each in its time; whether the stream is to be ended as usual."""
        site = self.site
        ttft = site.jitter[self.number % len(site.jitter)] if site.jitter else site.ttft
        at = time.monotonic() + ttft * (1 - self.cached / max(self.prompt, 1))
        while self.sent < self.total:
            await asyncio.sleep(max(0.0, at - time.monotonic()))
            if self.bad and site.fault and self.sent >= self.total // 2 and not await self.break_it():
                return False
            count = min(site.per_chunk, self.total - self.sent)
            self.sent += count
            self.first_ns = self.first_ns or time.monotonic_ns()
            for _ in range(site.pieces * (1 + site.twice)):
                await self.event(self.chunk(self.part(count), self.sent))
            for _ in range(site.empties):
                await self.event(self.chunk(self.part(0), self.sent))
            self.last_ns = time.monotonic_ns()
            at += site.itl * count
            if self.bad and site.fault == "endless":
                self.total += count
        return True

    def part(self, count: int) -> dict[str, Any]:
        """The text of so many tokens, where this mode has it."""
        site = self.site
        text = "" if self.sent <= site.held else site.text * count
        if site.text == "huge" and count:
            text = "x" * HUGE if self.bad and self.sent == count else "w "
        if not self.chat:
            return {"text": text}
        if self.sent <= site.reasoning:
            return {"reasoning_content": text, "content": None}
        if site.field == "tool_calls":
            function = {"name": "f", "arguments": text}
            return {"tool_calls": [{"index": 0, "id": "t", "type": "function", "function": function}]}
        if site.field == "function_call":
            return {"function_call": {"name": "f", "arguments": text}}
        return {"content": None if site.field != "content" or text == "" else text, site.field: text or None}

    def chunk(self, part: dict[str, Any], done: int, *, finish: Any = None) -> dict[str, Any]:
        site = self.site
        said = {"delta": part} if self.chat else part
        choice = {"index": 0, **said, "finish_reason": finish}
        choices: Any = [choice]
        if site.choices == "two":
            choices = [choice, {**choice, "index": 1}]
        elif site.choices == "dict":
            choices = {"0": choice}
        found = {"id": "c", "object": "chunk", "model": site.model, "choices": choices, **site.extra}
        if site.usage in ("continuous", "shrinking"):
            found["usage"] = self.usage(done if site.usage == "continuous" else self.total - done)
        elif site.usage == "zero_then_final":
            found["usage"] = self.usage(0 if finish is None else done)
        elif site.usage == "zero":
            found["usage"] = self.usage(0)
        elif site.usage == "null":
            found["usage"] = None
        elif site.usage == "last_chunk" and finish is not None:
            found["usage"] = self.usage(done)
        return found

    def usage(self, done: int) -> Any:
        site = self.site
        if site.completion == "list":
            return [done]
        told = site.completion if site.completion is not None else max(done - site.uncounted, 0) + site.completion_add
        found = {"prompt_tokens": self.prompt, "completion_tokens": told, "total_tokens": 0, **site.usage_extra}
        return {**found, "prompt_tokens_details": {"cached_tokens": self.cached}} if site.cache else found

    async def break_it(self) -> bool:
        """The fault, in the middle; whether the stream goes on nevertheless."""
        fault, writer = self.site.fault, self.writer
        if fault in ("endless", "no_finish"):
            return True
        if fault == "hang_mid":
            await asyncio.sleep(600)
        elif fault == "hang_comments":
            for _ in range(3000):
                await self.write(b": keep-alive\n\n")
                await asyncio.sleep(0.2)
        elif fault == "hang_empty":
            for _ in range(3000):
                await self.event(self.chunk(self.part(0), self.sent))
                await asyncio.sleep(0.2)
        elif fault == "drip":
            for byte in json.dumps(self.chunk(self.part(1), self.sent)).encode():
                await self.write(bytes([byte]))
                await asyncio.sleep(1.0)
        elif fault == "reset":
            writer.transport.abort()
            raise ConnectionResetError
        elif fault == "half_close":
            writer.write_eof()
            raise ConnectionResetError
        elif fault == "truncate":
            await self.end()
        elif fault == "truncate_done":
            await self.write(b"data: [DONE]\n\n")
            await self.end()
        else:
            await self.event_text(FAULTS[fault])
            if not fault.endswith("_goes_on"):
                await self.end()
                return False
            return True
        return False

    # how it is written

    async def open(self) -> None:
        site = self.site
        lines = "".join(f"{one}\r\n" for one in site.head)
        if site.http == "early":
            self.writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n")
        framing = "connection: close" if site.http == "close" else "transfer-encoding: chunked"
        version = "1.0" if site.http == "close" else "1.1"
        if site.http == "announced":
            framing += "\r\nconnection: close"
        self.writer.write(f"HTTP/{version} 200 OK\r\ncontent-type: {site.type}\r\n{lines}{framing}\r\n\r\n".encode())
        self.opened = True
        if site.before:
            await self.write(site.before.encode())

    async def event(self, content: Any) -> None:
        await self.event_text(json.dumps(content))

    async def event_text(self, text: str) -> None:
        await self.write(SSE[self.site.sse](text))

    async def write(self, data: bytes) -> None:
        size = 29 if self.site.sse == "bytes" else max(len(data), 1)
        for start in range(0, len(data), size):
            part = data[start : start + size]
            extension = b";odd=1" if self.site.http == "extensions" else b""
            framed = b"%x%s\r\n%s\r\n" % (len(part), extension, part)
            self.writer.write(part if self.site.http == "close" else framed)
            await self.writer.drain()

    async def close(self) -> None:
        """The finish reason, the usage and the end of the stream."""
        site = self.site
        hidden = self.bad and site.fault == "no_finish"
        finish = "x" * HUGE if site.finish == "huge" else site.finish
        done = b"data: [DONE]\n\n"
        if site.done == "early":
            await self.write(done)
        if not hidden:
            await self.event(self.chunk({} if self.chat else {"text": ""}, self.sent, finish=finish))
        if site.usage in ("final", "null", "continuous", "shrinking", "zero"):
            final = self.usage(0 if site.usage in ("shrinking", "zero") else self.sent)
            await self.event({"id": "c", "choices": [], "usage": final, **site.extra})
        for _ in range({"once": 1, "twice": 2, "after": 1}.get(site.done, 0)):
            await self.write(done)
        if site.done == "after":
            await self.event(self.chunk(self.part(1), self.sent))
        if site.done == "hang":
            await asyncio.sleep(600)
        await self.end()

    async def end(self) -> None:
        trailers = b"x-odd: 1\r\n" if self.site.http == "trailers" else b""
        if self.site.http != "close":
            self.writer.write(b"0\r\n" + trailers + b"\r\n")
        await self.writer.drain()

    async def whole(self) -> None:
        """An answer that is no stream."""
        await asyncio.sleep(self.site.ttft + self.site.itl * (self.total - 1))
        text = self.site.text * self.total
        choice = {
            "index": 0,
            "finish_reason": "length",
            **({"message": {"content": text}} if self.chat else {"text": text}),
        }
        await plain(self.writer, 200, json.dumps({"choices": [choice], "usage": self.usage(self.total)}))

    async def at_once(self) -> None:
        """All events as one body of known length, when the last token is there."""
        await asyncio.sleep(self.site.ttft + self.site.itl * (self.total - 1))
        events = [self.chunk(self.part(1), number + 1) for number in range(self.total)]
        events += [
            self.chunk({"text": ""}, self.total, finish="length"),
            {"choices": [], "usage": self.usage(self.total)},
        ]
        data = b"".join(SSE["plain"](json.dumps(one)) for one in events) + b"data: [DONE]\n\n"
        head = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {len(data)}\r\n\r\n"
        self.writer.write(head.encode() + data)
        await self.writer.drain()


async def plain(writer: asyncio.StreamWriter, status: int, text: str) -> None:
    data = text.encode()
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)
    await writer.drain()


#: How an event is written.
SSE = {
    "plain": lambda text: f"data: {text}\n\n".encode(),
    "bytes": lambda text: f"data: {text}\n\n".encode(),
    "crlf": lambda text: f"data: {text}\r\n\r\n".encode(),
    "cr": lambda text: f"data: {text}\r\r".encode(),
    "comments": lambda text: f": ping\n\ndata: {text}\n: pong\n\n".encode(),
    "named": lambda text: f"event: message\nid: 7\nretry: 100\ndata: {text}\n\n".encode(),
    "no_space": lambda text: f"data:{text}\n\n".encode(),
    "empty_data": lambda text: f"data:\n\ndata: {text}\n\n".encode(),
    "many_lines": lambda text: ("data: " + text.replace(", ", ",\ndata: ", 1) + "\n\n").encode(),
    "ping": lambda text: f"event: ping\ndata: {{}}\n\ndata: {text}\n\n".encode(),
    "ndjson": lambda text: f"{text}\n".encode(),
    "latin1": lambda text: b"data: " + text.replace("w ", "@").encode().replace(b"@", b"\xff\xfe ") + b"\n\n",
    "raw": lambda text: f"data: {text}\n\n".encode().replace(b"w ", "\u2028\u0085".encode()),
}
#: Events that are sent in the place of a token.
FAULTS = {
    "error_object": '{"error": {"message": "the engine aborted the request", "code": 500}}',
    "error_400": '{"error": {"message": "the engine aborted the request", "code": 400}}',
    "error_string": '{"error": "the engine aborted the request"}',
    "error_vllm": '{"object": "error", "message": "the engine aborted the request", "code": 500}',
    "error_goes_on": '{"error": {"message": "the engine aborted the request"}}',
    "no_json": "what is this",
    "list": "[1, 2]",
    "number": "7",
    "deep": "[" * 200_000 + "]" * 200_000,
    "choices_text": '{"choices": "none"}',
    "choices_numbers": '{"choices": [1]}',
    "delta_list": '{"choices": [{"index": 0, "delta": [1], "text": 5}]}',
}


async def main(path: str) -> None:
    modes = json.loads(Path(path).read_text())
    server = Server(modes)
    ports = {"": await server.listen()}
    for name, options in modes.items():
        if options.get("own_port"):
            for load in ("offline", "closed", "open"):  # what one of them does to it is not the others' affair
                ports[f"{name}/{load}"] = await server.listen(f"{name}/{load}")
    print(json.dumps(ports), flush=True)
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
