"""The short run of `tests.fuzz.rest`: every answer is one that the document allows."""

from pathlib import Path

import pytest
import trio

from tests.fuzz import rest
from tests.support.deployment import Deployment


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("caller", ["key", "token"])
def test_no_request_gets_an_answer_that_the_document_does_not_allow(
    shared_processes: Deployment, tmp_path: Path, caller: str
) -> None:
    assert shared_processes.api is not None
    header = rest.credentials(trio.run(rest.prepare, shared_processes))[caller]
    status, output = rest.attack(
        shared_processes.api.base_url, header, tmp_path, seconds=12, seed=1
    )
    assert status == 0, output[-6000:]
    assert "Traceback" not in shared_processes.api.output()
