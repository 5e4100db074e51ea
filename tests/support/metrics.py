"""Reading the metrics of a running process, as Prometheus does."""

from prometheus_client.parser import text_string_to_metric_families

from tests.support.http import request
from tests.support.waiting import wait_until
from workers.embedded.ports import LOOPBACK


class MetricsPage:
    """The page of one process, on its METRICS_PORT."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def read(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample, by name and labels."""
        answer = await request("GET", f"http://{LOOPBACK}:{self.port}/metrics")
        assert answer.status == 200
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(answer.body.decode())
            for sample in family.samples
        }

    async def value(self, name: str, **labels: str) -> float:
        """One sample; 0 if nothing has been counted under these labels yet."""
        return (await self.read()).get((name, frozenset(labels.items())), 0.0)

    async def wait_above(self, floor: float, name: str, **labels: str) -> float:
        """Wait until the sample is above `floor`; what it is then."""

        async def is_above() -> float | None:
            value = await self.value(name, **labels)
            return value if value > floor else None

        found = await wait_until(is_above, deadline=30.0, what=f"{name} {labels} above {floor}")
        assert isinstance(found, float)
        return found
