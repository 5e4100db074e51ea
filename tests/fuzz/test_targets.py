"""The targets of `make fuzz` over the kept inputs and some mutations, and what they found."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.inputs import CORPUS, kept_inputs, mutated
from tests.fuzz.targets import TARGETS, Breach, require

CORPUS_BYTES_MAX = 40_000
EXAMPLES = 60


def test_every_target_has_its_inputs_and_they_are_small():
    files = sorted(CORPUS.glob("*"))
    assert {file.stem for file in files} == set(TARGETS)
    assert sum(file.stat().st_size for file in files) < CORPUS_BYTES_MAX


@pytest.mark.parametrize("target", TARGETS)
def test_kept_inputs_break_no_rule(target):
    assert kept_inputs(target)
    for data in kept_inputs(target):
        TARGETS[target].run(data)


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_mutations_break_no_rule(target, data):
    TARGETS[target].run(data.draw(mutated(target)))


def test_a_target_that_could_not_fail_would_be_none():
    with pytest.raises(Breach, match="held: \\(1,\\)"):
        require(False, "held", 1)


@pytest.mark.parametrize("field", [b"metadata", b"unknown"])
@pytest.mark.parametrize(
    "event", [b"message.created", b"message.edited", b"message.deleted", b"reaction.added"]
)
def test_what_is_nested_too_deep_is_a_dead_letter_and_no_end_of_the_archive(event, field):
    """Found by `entry`: a RecursionError stopped the partition, before the commit in the plan and
    behind it (so that nothing was acknowledged) in the notifications."""
    depth = 100_000
    head = b"epoch 1 1 1700000000000 %b default/room alice 0\n" % event
    data = b'{"id":"m","seq":1,"user":"bob","reaction":"+1","%b":' % field
    TARGETS["entry"].run(head + data + b"[" * depth + b"]" * depth + b"}")
