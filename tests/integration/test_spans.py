"""Traces: what processes send to a collector that speaks OTLP over HTTP, and what they do not."""

import json
import re
from collections.abc import Callable, Iterator

import pytest
import trio
from structlog.testing import capture_logs

from broker.counts import LATENCY_SAMPLE
from config.errors import ConfigError
from config.span_options import SpanOptions, read_span_options
from config.spans import open_spans
from tests.support.collector import ENDPOINT, Collector, open_collector, values
from tests.support.deployment import Deployment, replace, room_path
from tests.support.waiting import pass_time, wait_until

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with open_collector() as opened:
        yield opened


async def test_requests_publishes_and_flushes_are_traced(
    shared: Deployment, collector: Collector, name: Callable[[str], str]
) -> None:
    env = {
        ENDPOINT: collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-key=se%20cret",
    }
    traced = [await shared.processes.start(kind, env=env) for kind in ("broker", "api", "archiver")]
    broker, api, _ = traced
    try:
        here = replace(shared, brokers=[broker], api=api)
        room = name("traced")
        await here.create_room(room, "alice")
        await here.send("GET", room_path(room), headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})

        async def is_traced() -> bool:
            for _ in range(LATENCY_SAMPLE):
                await alice.publish(room, "psst")
            return all(
                collector.named(f"parley-{service}", span)
                for service, span in (("broker", "publish"), ("archiver", "archive flush"))
            )

        async with here.connect("alice") as alice:
            await wait_until(is_traced, deadline=40, what="spans of broker and archiver")
        route = "GET /v1/rooms/<room>"
        await wait_until(lambda: collector.named("parley-api", route), deadline=20, what=route)
    finally:
        for process in traced:
            assert await process.stop() == 0
    (request,) = collector.named("parley-api", route)
    assert (request["traceId"], request["parentSpanId"], request["kind"]) == (TRACE, PARENT, 2)
    told = values(request["attributes"])
    assert told.pop("parley.request_id")
    assert told == {
        "http.request.method": "GET",
        "http.route": "/v1/rooms/<room>",
        "http.response.status_code": "200",
    }
    publish = collector.named("parley-broker", "publish")[0]
    assert 0 < int(publish["endTimeUnixNano"]) - int(publish["startTimeUnixNano"]) < 40e9
    assert re.fullmatch("[0-9a-f]{32}", publish["traceId"])
    assert "parentSpanId" not in publish
    assert collector.keys == {"se cret"}
    # Neither what was written nor where or by whom.
    everything = json.dumps(collector.spans)
    assert room not in everything
    assert "psst" not in everything
    assert "alice" not in everything


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "chat"}, False),
        ({ENDPOINT: ""}, False),
        ({ENDPOINT: "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({ENDPOINT: "http://c:4318", "OTEL_SDK_DISABLED": "true"}, False),
        ({ENDPOINT: "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_the_standard_variables_switch_it(variables: dict[str, str], wanted: bool) -> None:
    options = read_span_options("broker", variables)
    assert (options is not None) is wanted
    if options is not None:
        assert (options.url, options.ratio) == ("http://c:4318/v1/traces", 1.0)


def test_every_variable_is_taken() -> None:
    variables = {
        ENDPOINT: "https://c/",
        "OTEL_SERVICE_NAME": "chat",
        "OTEL_RESOURCE_ATTRIBUTES": "service.name=no, deployment.environment.name=test",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.25",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1500",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_BSP_MAX_QUEUE_SIZE": "10",
    }
    assert read_span_options("broker", variables) == SpanOptions(
        url="https://c/v1/traces",
        headers={},
        resource={"service.name": "chat", "deployment.environment.name": "test"},
        ratio=0.25,
        follows_parent=True,
        delay=0.2,
        timeout=1.5,
        queue_max=10,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (ENDPOINT, "collector:4318"),
        (ENDPOINT, "file:///etc/passwd"),
        (ENDPOINT, "http://[c"),
        (ENDPOINT, "http://c:99999"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ("OTEL_TRACES_SAMPLER_ARG", "nan"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "secret"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str) -> None:
    variables = {ENDPOINT: "http://c", "OTEL_TRACES_SAMPLER": "traceidratio", name: value}
    with pytest.raises(ConfigError, match=f"^{name}: .*allowed: "):
        read_span_options("broker", variables)


@pytest.mark.parametrize(
    ("sampler", "traceparent", "is_sent"),
    [
        ("always_on", None, True),
        ("always_off", f"00-{TRACE}-{PARENT}-01", False),
        ("parentbased_always_on", f"00-{TRACE}-{PARENT}-00", False),
        ("parentbased_always_off", f"00-{TRACE}-{PARENT}-01", True),
        ("parentbased_always_on", "00-zz-01", True),
        ("parentbased_always_on", f"00-{'0' * 32}-{PARENT}-00", True),
    ],
)
async def test_who_is_sampled(
    collector: Collector, sampler: str, traceparent: str | None, is_sent: bool
) -> None:
    """What is kept is sent at the end; a parent that makes no sense is nobody's."""
    async with open_spans("x", {ENDPOINT: collector.url, "OTEL_TRACES_SAMPLER": sampler}) as spans:
        assert spans is not None
        spans.record("one", 0.5, {"number": 3, "share": 0.5}, traceparent=traceparent, failed=True)
    found = collector.named("parley-x", "one")
    assert len(found) == is_sent
    for span in found:
        assert values(span["attributes"]) == {"number": "3", "share": "0.5"}
        assert span["status"] == {"code": 2}


async def test_a_collector_that_is_away_costs_nothing(free_port: int) -> None:
    """The queue is bounded, the stop is not held up, and it is told once."""
    variables = {ENDPOINT: f"http://127.0.0.1:{free_port}", "OTEL_BSP_SCHEDULE_DELAY": "5"}
    with trio.fail_after(30), capture_logs() as logs:
        async with open_spans("broker", variables | {"OTEL_BSP_MAX_QUEUE_SIZE": "20"}) as spans:
            assert spans is not None
            for _ in range(1000):
                spans.record("publish", 0.001, {})
            await wait_until(lambda: logs, deadline=20, what="a line in the log")
            spans.record("publish", 0.001, {})
            await pass_time(0.05)
    (line,) = logs
    assert line["event"] == "traces are not taken"
    assert line["dropped"] <= 20
