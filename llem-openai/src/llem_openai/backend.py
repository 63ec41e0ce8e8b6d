"""The backend `openai`. Light to import: httptools is imported by `load`, never by `check`."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from llem.backends.base import Backend, Holding, Placement, Request
from llem.config.models import Experiment
from llem.errors import MachineError
from llem.findings import Finding
from llem.foreign.secrets import redacted, without_key_in
from llem.models.spec import ModelSpec
from llem_openai.address import Address
from llem_openai.body import request_body
from llem_openai.checks import as_text, findings, lacking, sends_text, unheld
from llem_openai.config import READY_TIMEOUT_S, OpenAIOptions, argv

if TYPE_CHECKING:
    from llem_openai.client import Client
    from llem_openai.engine import OpenAIEngine
    from llem_openai.served import Prompts
    from llem_openai.server import Site

__all__ = ["OpenAIBackend"]


class OpenAIBackend(Backend):
    """Checks a configuration, and starts or finds the server."""

    name = "openai"
    options: OpenAIOptions

    def __init__(self, options: Any = None) -> None:
        super().__init__(OpenAIOptions() if options is None else options)

    def check(self, experiment: Experiment, model: ModelSpec) -> Sequence[Finding]:
        """What the endpoint cannot honour, all of it, as findings `backend_check`; a warning where text is sent."""
        return findings(self.options, experiment)

    def lacks(self, experiment: Experiment, capability: str) -> str | None:
        """Likelihoods, where prompts are not token ids. What the server itself lacks, the loaded engine tells."""
        return lacking(self.options, capability)

    def known(self, experiment: Experiment, model: ModelSpec) -> ModelSpec:
        """The server has loaded whatever it likes, unless llem's own command names the model."""
        from llem_openai.defaults import known

        return known(self.options, model)

    def holding(self, experiment: Experiment, model: ModelSpec) -> Holding:
        """Not known: the model, its number format and its GPUs are the server's matter."""
        return Holding(unknown="the server decides how it holds the model")

    def engine_key(self, experiment: Experiment) -> str:
        """An engine for each experiment: what a server keeps of the prompts of others cannot be told."""
        return repr(experiment)

    def load(self, experiment: Experiment, model: ModelSpec, placement: Placement) -> OpenAIEngine:
        """Start the server or find it, and find out with one request how it speaks.

        Raises:
            ConfigError: it refuses the request, or does not have the model.
            MachineError: no answer comes, its processes cannot be seen, or it computes on other GPUs than are measured.
            ExperimentFailed: it ended or did not get ready (with the end of its output), or tells no usage; or the
                worker is to stop.
        """
        from llem_openai.body import goes_as_text, http_head
        from llem_openai.client import Client, reference_of
        from llem_openai.dialect import probe
        from llem_openai.engine import OpenAIEngine
        from llem_openai.failures import fatal
        from llem_openai.locality import family, gpu_processes, misplaced
        from llem_openai.scoring import probe_scoring
        from llem_openai.served import Prompts, context_of, differing, draws_ids, first_request, random_ids, wanted
        from llem_openai.server import Site, key_of

        options, key = self.options, key_of(self.options.api_key_env)
        address = Address.of(options.base_url)
        path = "chat/completions" if options.endpoint == "chat" else "completions"
        with fatal(), ExitStack() as held:
            site = Site(address.root, address.base, key)
            before = gpu_processes()
            roots = self._server(address, site, key, held)
            entry = site.model(wanted(options, model))
            prompts = Prompts.of(options, experiment, model, entry)
            head = http_head(f"{address.base}/{path}", key)
            unknown = reference_of(options, address.base, key, "final_usage")
            with closing(Client(unknown, head)) as client:
                if prompts.model is None and prompts.decode is None and draws_ids(experiment):
                    ids = random_ids(partial(_ask, client, options, experiment, str(entry["id"])))
                    prompts = attrs.evolve(prompts, ids=ids)
                first = first_request(experiment, options, prompts, context_of(entry))
                text = goes_as_text(options, first, prompts.decode)
                sent = experiment.sampling, str(entry["id"]), first, prompts.decode
                dialect = client.run(probe(client, options, *sent))
            reference = reference_of(options, address.base, key, dialect.token_counts)
            client = held.enter_context(closing(Client(reference, head)))
            unscored = lacking(options, "loglikelihood")
            if unscored is None and experiment.quality is not None:
                unscored = client.run(probe_scoring(client, options, str(entry["id"])))
            # after the first request: some servers load the model for it
            after, pids = gpu_processes(), family(roots)
            reason = misplaced(before if options.command else after, after, pids, placement.gpu_uuids)
            if reason is not None:
                raise MachineError(reason, _place_hint(options), code="gpu_misplaced")
            return OpenAIEngine(
                client,
                reference,
                options,
                experiment.sampling,
                model=str(entry["id"]),
                dialect=dialect,
                prompts=prompts,
                site=site,
                facts={**self._facts(site, entry, pids, roots, key), **_of_prompts(experiment, prompts, first, text)},
                doubts=(
                    *differing(model, entry, options),
                    *([as_text()] if text and not sends_text(options) else ()),
                    *unheld(experiment, context_of(entry), tokenized=bool(first.token_ids)),
                ),
                pids=pids,
                unscored=unscored,
                held=held.pop_all(),
            )

    def _server(self, address: Address, site: Site, key: str | None, held: ExitStack) -> Collection[int]:
        """Where all processes of the server begin: the one that we start, or those that listen."""
        from llem_openai.locality import listeners
        from llem_openai.process import Started, until_ready

        command = argv(self.options.command)
        if not command:
            site.require()
            return listeners(address.port)
        if site.listens():
            raise MachineError(
                f"something listens at {address.base} already, and it is not the server of openai.command",
                "stop it, leave openai.command out to measure it, or use another port",
            )
        started = Started(command, key)
        held.callback(started.close)
        until_ready(started, site, self.options.ready_timeout_s or READY_TIMEOUT_S, self.wait)
        return (started.pid,)

    def _facts(
        self, site: Site, entry: Mapping[str, Any], pids: Collection[int], roots: Collection[int], key: str | None
    ) -> Mapping[str, Any]:
        """What the server tells and how it was started, as JSON values without secrets."""
        from llem_openai.facts import command_lines, scalars, server_facts

        facts = {
            "base_url": self.options.base_url,
            "endpoint": self.options.endpoint,
            "served_model": entry["id"],
            "model": scalars(entry),
            "server": server_facts(site),
            "command": list(redacted(argv(self.options.command) or ())) or None,
            "processes": [] if self.options.command else command_lines(roots),
            "pids": sorted(pids),
        }
        # what was parsed, for JSON may spell a key in another way
        return without_key_in(json.loads(json.dumps(facts)), key)  # type: ignore[no-any-return]


def _of_prompts(experiment: Experiment, prompts: Prompts, first: Request, text: bool) -> Mapping[str, Any]:
    """How prompts go out, as the first request did: `prompt_text` is of which text their token ids became, and `salt`
    that of random ones; each is None where there is no such thing.
    """
    from llem_openai.served import draws_ids

    made = text and first.text is None and first.messages is None
    return {
        "prompt": "text" if text else "token_ids",
        "prompt_text": prompts.source if made else None,
        "salt": prompts.salt or None if experiment.workload is not None and draws_ids(experiment) else None,
    }


def _ask(client: Client, options: OpenAIOptions, experiment: Experiment, name: str, ids: Sequence[int]) -> None:
    """Send a prompt and take one token of its answer. Raises ConfigError where the server refuses it."""
    request = Request(0, tuple(ids), 1)
    client.run(client.answer(request_body(options, experiment.sampling, request, model=name)))


def _place_hint(options: OpenAIOptions) -> str:
    if options.command:
        return "the command gets CUDA_VISIBLE_DEVICES from `gpus` and `device`: let it use just those"
    return (
        "name the server's GPUs in `gpus`, or set `device: cpu` where it uses none; where it runs in another container "
        "its processes cannot be told: start it with openai.command"
    )
