"""The server as an engine: batches and streams of requests, and what is known of it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from llem.backends.base import Completion, Engine, Likelihood, MemoryReading, Observed, Request, Scored
from llem.backends.check import check_scored
from llem.backends.wire import WireReference
from llem.config.models import Sampling
from llem.errors import ConfigError, ExperimentFailed
from llem.findings import Finding
from llem.models.spec import Architecture, ModelSpec
from llem_openai.body import asked_of, http_message, prompt_text, request_body
from llem_openai.client import Client, together
from llem_openai.config import OpenAIOptions
from llem_openai.counting import choice_of, counted, finish_of, ids_of, metrics, text_of, usage_of
from llem_openai.dialect import PROBE, Dialect
from llem_openai.failures import fatal
from llem_openai.observed import keeps_prompts, observed
from llem_openai.scoring import score_all
from llem_openai.served import Prompts, context_of
from llem_openai.server import Site

__all__ = ["OpenAIEngine"]


class OpenAIEngine(Engine):
    """Speaks to a server that is ready.

    Args:
        client: to the endpoint.
        reference: of the wire to it, for the load generator.
        model: the model's name at the server.
        prompts: how they are made for the served model.
        site: the server's fixed addresses.
        doubts: what is doubtful about what it serves.
        facts: what else `effective_config` tells; JSON values.
        pids: of the server.
        unscored: why the server gives no likelihoods; None where it does, or nobody asked.
        held: lets go of the rest (the server, if we started it), last.
    """

    def __init__(
        self,
        client: Client,
        reference: WireReference,
        options: OpenAIOptions,
        sampling: Sampling,
        model: str,
        dialect: Dialect,
        prompts: Prompts,
        site: Site,
        facts: Mapping[str, Any],
        doubts: Sequence[Finding],
        pids: Collection[int],
        unscored: str | None,
        held: ExitStack,
    ) -> None:
        self._client, self._reference = client, reference
        self._options, self._sampling = options, sampling
        self._model, self._dialect, self._decode = model, dialect, prompts.decode
        self._prompts, self._doubts, self._site = prompts, doubts, site
        self._keeps_prompts = keeps_prompts(site)
        self._watched: bool | None = None  # whether the first reading told anything
        self._facts, self._pids, self._held = facts, pids, held
        self._unscored = unscored

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, token_times: bool = False
    ) -> Sequence[Completion]:
        """All requests at once. They are streamed where token times are asked for, else answered whole.

        Raises:
            ConfigError: the server refuses a request.
            ExperimentFailed: it fails, is silent, or what it tells cannot be counted.
        """
        one = self._streamed if token_times else self._whole
        with fatal():
            return self._client.run(together([one(request, sampling) for request in requests]))

    def wire(self) -> WireReference:
        """The load generator's own processes speak to the server; see `llem_openai.wire`."""
        return self._reference

    def message(self, request: Request, sampling: Sampling) -> bytes:
        """All that is written for one request that is streamed."""
        return http_message(self._client.head, self._body(request, sampling, stream=True))

    def _body(self, request: Request, sampling: Sampling, *, stream: bool) -> dict[str, Any]:
        options = self._dialect.stream_options if stream else None
        text = prompt_text(self._options, request, self._decode)
        return request_body(self._options, sampling, request, model=self._model, text=text, stream_options=options)

    async def _whole(self, request: Request, sampling: Sampling) -> Completion:
        exchange = await self._client.exchange(self._body(request, sampling, stream=False))
        answer, sent = self._client.reader.whole(exchange), exchange.size
        asked = self._client.reader.expected(asked_of(request))
        total, choice = counted(usage_of(answer), asked), choice_of(answer) or {}
        ids = ids_of(choice) if self._options.return_token_ids else None
        if ids is not None and len(ids) != total:
            raise ExperimentFailed(
                f"request {request.index}: the server gives {len(ids)} token ids and counts {total}",
                "report it to its authors",
                code="invalid",
            )
        return Completion(
            request.index,
            ids,
            finish_of(choice) or "unknown",
            engine_metrics=metrics(usage_of(answer) or {}, answer.get("metrics"), asked, sent),
            token_count=total if ids is None else None,
            text=text_of(choice) if ids is None else None,
        )

    async def _streamed(self, request: Request, sampling: Sampling) -> Completion:
        body = self._body(request, sampling, stream=True)
        chunks = self._client.reader.chunks(await self._client.exchange(body, asked_of(request)))
        ids = [token for chunk in chunks for token in chunk.token_ids or ()]
        known = self._options.return_token_ids
        return Completion(
            request.index,
            tuple(ids) if known else None,
            chunks[-1].finish_reason or "unknown",
            token_times_ns=tuple(chunk.time_ns for chunk in chunks for _ in range(chunk.tokens)),
            engine_metrics=chunks[-1].engine_metrics,
            token_count=None if known else sum(chunk.tokens for chunk in chunks),
        )

    def loglikelihood(self, requests: Sequence[Scored]) -> Sequence[Likelihood]:
        """As the server tells them of a prompt that it repeats; see `llem_openai.scoring`.

        Raises:
            ConfigError: the server gives none, refuses a text, or a text is longer than `scored_length`.
            ExperimentFailed: it fails or is silent.
        """
        if self._unscored is not None:
            raise ConfigError("the server gives no likelihoods", self._unscored)
        check_scored(requests, self.scored_length(), "the server's context less the token that it makes after a prompt")
        with fatal():
            return self._client.run(score_all(self._client, self._options, requests, self._model))

    def scored_length(self) -> int | None:
        """One token less than `context_length`: a server makes a token after every prompt."""
        context = self.context_length()
        return None if context is None else context - 1

    def lacks(self, capability: str) -> str | None:
        """Why this server gives no likelihoods, as a request has shown."""
        return self._unscored if capability == "loglikelihood" else None

    def effective_config(self) -> Mapping[str, Any]:
        """What the server tells, how it was started, and what is sent with each request. `dtype` is not told."""
        sent = request_body(self._options, self._sampling, PROBE, model=self._model, text=None)
        for name in ("prompt", "messages", "max_tokens", "min_tokens", "seed"):
            sent.pop(name, None)
        found = {
            "dtype": None,
            **self._facts,
            "request": sent,
            "ignore_eos_fields": list(self._options.ignore_eos_fields) if self._sampling.ignore_eos else [],
            "token_counts": self._dialect.token_counts,
            "stream_options": dict(self._dialect.stream_options),
        }
        return json.loads(json.dumps(found))  # type: ignore[no-any-return]

    def tokenizer_model(self, model: ModelSpec) -> ModelSpec | None:
        """The model that was named, else the served one where it lies on this machine."""
        return self._prompts.model

    def takes_messages(self) -> bool:
        """To the endpoint `chat`, which puts them into the server's own template."""
        return self._options.endpoint == "chat"

    def random_ids(self) -> range | None:
        """Ids that the server has taken, where its vocabulary is not known."""
        return self._prompts.ids

    def salt(self) -> str:
        """Another one for each engine, for a server that may have met the same prompts before; see `openai.salt`."""
        return self._prompts.salt

    def keeps_prompts(self) -> bool | None:
        """As the server tells it (vLLM does), else not known."""
        return self._keeps_prompts

    def observe(self) -> Observed | None:
        """What the server's page `/metrics` tells now; None where that fails. It is not asked again if the first time
        does: there is no such page then.
        """
        found = observed(self._site) if self._watched is not False else None
        if self._watched is None:
            self._watched = found is not None
        return found

    def findings(self) -> Sequence[Finding]:
        """That the server serves another model than was named."""
        return self._doubts

    def architecture(self) -> Architecture | None:
        """None: what the server has loaded, and in which formats, is not known here, whatever `model` says."""
        return None

    def context_length(self) -> int | None:
        """As the server's list of models tells it (vLLM, SGLang and others), else None."""
        return context_of(self._facts["model"])

    def memory(self) -> MemoryReading:
        """Not known: it is the server's."""
        return MemoryReading(None, covers="nothing: the server does not tell its memory", reason="not_supported")

    def pids(self) -> Collection[int]:
        """The server's processes."""
        return self._pids

    def close(self) -> None:
        """Close the connections; end the server if llem started it. May be called twice."""
        self._held.close()
