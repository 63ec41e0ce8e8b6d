"""A small server that speaks the OpenAI interface: run as a process of its own, with the faults that flags ask for.

Each token is fixed by those before it. What it received can be asked for at /log.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import subprocess
import sys
import time

VOCAB = 512


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--usage", choices=("continuous", "final", "none"), default="continuous")
    parser.add_argument("--models", default="tiny")
    parser.add_argument("--refuse", default="", help="fields that are refused with 400")
    parser.add_argument("--know-eos", action="store_true", help="take ignore_eos and not honour it")
    parser.add_argument("--eos", type=int, default=0, help="stop after this many tokens, unless ignore_eos")
    parser.add_argument("--per-event", type=int, default=1, help="tokens of an event")
    parser.add_argument("--pieces", type=int, default=1, help="events of a token")
    parser.add_argument("--text", default="w ", help="of a token")
    parser.add_argument("--no-ids", action="store_true")
    parser.add_argument("--echo", choices=("whole", "ignored", "no-top"), default="whole", help="with logprobs")
    parser.add_argument("--context", type=int, default=2048, help="tokens of prompt and answer")
    parser.add_argument("--more-prompt", type=int, default=0, help="tokens that it adds to a prompt")
    parser.add_argument("--key-variable", default="", help="variable with the key that requests must have")
    parser.add_argument("--fail-after", type=int, default=-1, help="tokens, then an error event")
    parser.add_argument("--drop-after", type=int, default=-1, help="tokens, then the connection ends")
    parser.add_argument("--comments-after", type=int, default=-1, help="tokens, then comments for ever")
    parser.add_argument("--spare", type=int, default=0, help="requests that do not fail, first")
    parser.add_argument("--status", type=int, default=200, help="of every answer after those")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each token")
    parser.add_argument("--loading", type=float, default=0.0, help="seconds in which /health is 503")
    parser.add_argument("--die", default="", help="write this and end at once")
    parser.add_argument("--child", action="store_true", help="have a child that ignores SIGTERM")
    return parser.parse_args()


def following(ids: list[int], count: int) -> list[int]:
    """Each is fixed by all before it."""
    made, seed = [], sum(place * token for place, token in enumerate(ids, start=1))
    for place in range(len(ids) + 1, len(ids) + count + 1):
        made.append(seed * 31 % VOCAB)
        seed += place * made[-1]
    return made


class Endpoint:
    def __init__(self, args: argparse.Namespace, key: str) -> None:
        self.args, self.key = args, key
        self.received: list[dict] = []
        self.aborted = 0
        self.in_flight = self.most_in_flight = 0
        self.since = time.monotonic()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                method, path, _ = head[0].split(" ")
                headers = {
                    name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)
                }
                raw = await reader.readexactly(int(headers.get("content-length", 0)))
                await self.respond(writer, method, path, headers, json.loads(raw) if raw else {})
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def respond(self, writer, method: str, path: str, headers: dict, body: dict) -> None:
        args = self.args
        if path == "/log":
            log = {
                "received": self.received,
                "aborted": self.aborted,
                "in_flight": self.in_flight,
                "most_in_flight": self.most_in_flight,
            }
            return await send(writer, 200, log)
        if path == "/health":
            return await send(writer, 200 if time.monotonic() - self.since >= args.loading else 503, {})
        if path == "/version":
            return await send(writer, 200, {"version": "1.2.3", "api_key": "hidden", "nested": {}})
        if self.key and headers.get("authorization") != f"Bearer {self.key}":
            return await send(writer, 401, {"error": {"message": f"Unauthorized: {headers.get('authorization')}"}})
        if path == "/v1/models":
            entries = [
                {"id": name, "object": "model", "max_model_len": args.context} for name in args.models.split(",")
            ]
            return await send(writer, 200, {"object": "list", "data": entries})
        if path not in ("/v1/completions", "/v1/chat/completions"):
            return await send(writer, 404, {"detail": "Not Found"})
        self.received.append({"path": path, "headers": headers, "body": body})
        refused = [name for name in args.refuse.split(",") if name and name in json.dumps(body)]
        if refused:
            return await send(writer, 400, {"error": {"message": f"unknown field {refused[0]}."}})
        prompt = body.get("prompt")
        if isinstance(prompt, list) and len(prompt) + 1 > args.context:
            return await send(writer, 400, {"error": {"message": "longer than the context length"}})
        if args.status != 200 and len(self.received) > args.spare:
            return await send(writer, args.status, {"error": {"message": "on purpose"}})
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await (self.stream if body.get("stream") else self.answer)(writer, path, body)
        except ConnectionError:
            self.aborted += 1
            raise
        finally:
            self.in_flight -= 1
        return None

    def tokens(self, body: dict) -> tuple[int, list[int], str]:
        prompt = body.get("prompt", body.get("messages"))
        ids = (
            prompt if isinstance(prompt, list) and prompt and isinstance(prompt[0], int) else list(str(prompt).encode())
        )
        count, reason = body["max_tokens"], "length"
        eos = self.args.eos
        if eos and eos < count and (self.args.know_eos or not body.get("ignore_eos")):
            count, reason = eos, "stop"
        made = following(ids, count)
        for end in range(1, count + 1) if body.get("stop") else ():
            if any(
                text in bytes(min(one, 255) for one in made[:end]).decode(errors="replace") for text in body["stop"]
            ):
                made, reason = made[:end], "stop"
                break
        return len(ids) + self.args.more_prompt, made, reason

    def logprobs(self, ids: list[int]) -> dict:
        """As if the token that `following` gives had the probability 1/2 and all others shared the rest."""
        own, top, seed = [None], [None], 0
        for place in range(1, len(ids)):
            seed += place * ids[place - 1]
            own.append(math.log(0.5 if ids[place] == seed * 31 % VOCAB else 0.5 / (VOCAB - 1)))
            top.append({"w": math.log(0.5)} if self.args.echo == "whole" else None)
        return {"tokens": ["w"] * len(ids), "token_logprobs": own, "top_logprobs": top}

    def usage(self, prompt: int, done: int) -> dict:
        details = {"cached_tokens": 2}
        usage = {"prompt_tokens": prompt, "completion_tokens": done, "total_tokens": prompt + done}
        return {**usage, "prompt_tokens_details": details}

    def choice(self, path: str, ids: list[int], text: str, body: dict, reason: str | None, part: str) -> dict:
        said = {"text": text} if path == "/v1/completions" else {part: {"content": text}}
        known = body.get("return_token_ids") and not self.args.no_ids
        return {"index": 0, **said, "finish_reason": reason, **({"token_ids": ids} if known else {})}

    async def answer(self, writer, path: str, body: dict) -> None:
        prompt, ids, reason = self.tokens(body)
        await asyncio.sleep(self.args.delay * len(ids))
        choice = self.choice(path, ids, self.args.text * len(ids), body, reason, "message")
        if body.get("echo") and body.get("logprobs") and self.args.echo != "ignored":
            choice["logprobs"] = self.logprobs([*body["prompt"], *ids])
        usage = {} if self.args.usage == "none" else {"usage": self.usage(prompt, len(ids))}
        await send(writer, 200, {"id": "x", "choices": [choice], **usage})

    async def stream(self, writer, path: str, body: dict) -> None:
        args = self.args
        prompt, ids, reason = self.tokens(body)
        options = body.get("stream_options") or {}
        continuous = args.usage == "continuous" and options.get("continuous_usage_stats")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        fails = len(self.received) > args.spare
        for start in range(0, len(ids), args.per_event):
            some = ids[start : start + args.per_event]
            await asyncio.sleep(args.delay * len(some))
            if fails and 0 <= args.fail_after <= start:
                await event(writer, {"error": {"message": "the engine broke", "code": 500}})
                break
            if fails and 0 <= args.drop_after <= start:
                raise ConnectionResetError
            while fails and 0 <= args.comments_after <= start:
                await chunk(writer, b": keep-alive\n\n")
                await asyncio.sleep(0.1)
            done = start + len(some)
            for piece in range(args.pieces):
                last = done == len(ids) and piece == args.pieces - 1
                new = some if piece == 0 else []
                choice = self.choice(path, new, args.text * len(some), body, reason if last else None, "delta")
                more = {"usage": self.usage(prompt, done)} if continuous else {}
                await event(writer, {"id": "x", "choices": [choice], **more})
        if args.usage != "none" and options.get("include_usage"):
            await event(writer, {"id": "x", "choices": [], "usage": self.usage(prompt, len(ids))})
        await chunk(writer, b"data: [DONE]\n\n")
        await chunk(writer, b"")


async def event(writer, content: dict) -> None:
    await chunk(writer, b"data: " + json.dumps(content, ensure_ascii=False).encode() + b"\n\n")


async def chunk(writer, data: bytes) -> None:
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))
    if writer.is_closing():
        raise ConnectionResetError
    await writer.drain()


async def send(writer, status: int, content: dict) -> None:
    data = json.dumps(content).encode()
    head = f"HTTP/1.1 {status} X\r\nserver: endpoint\r\ncontent-type: application/json\r\n"
    writer.write(head.encode() + b"content-length: %d\r\n\r\n" % len(data) + data)
    await writer.drain()


async def main(args: argparse.Namespace) -> None:
    print(f"starting on {args.port}", file=sys.stderr, flush=True)
    if args.die:
        sys.exit(args.die)
    if args.child:
        code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        subprocess.Popen([sys.executable, "-c", code])
    endpoint = Endpoint(args, os.environ.get(args.key_variable, "") if args.key_variable else "")
    server = await asyncio.start_server(endpoint.serve, "127.0.0.1", args.port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(arguments()))
