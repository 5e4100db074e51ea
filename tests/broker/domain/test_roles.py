"""The table of roles, walked whole: every action with every role, capability, kind and caller."""

from __future__ import annotations

import itertools

import pytest

from broker.domain import roles
from broker.domain.roles import Action, is_silenced, is_visible, refusal

KINDS = ("direct", "group", "public")
CALLERS: tuple[roles.Caller, ...] = ("user", "key_user", "project")
SETS = [set(c) for n in range(4) for c in itertools.combinations(roles.CAPABILITIES, n)]


def first_role(action: Action) -> str | None:
    """The contract's sentence, spelled out again: the lowest role that has the action."""
    return {
        Action.READ: "reader",
        Action.JOIN: None,
        Action.REACT: "reader",
        Action.MARK: "reader",
        Action.PUBLISH: "member",
        Action.TYPE: "member",
        Action.SIGNAL: "member",
        Action.EDIT_OWN: "member",
        Action.DELETE_OWN: "member",
        Action.DELETE_OTHERS: "admin",
        Action.EDIT_ROOM: "admin",
        Action.ADD_MEMBER: "admin",
        Action.REMOVE_MEMBER: "admin",
        Action.MUTE: "admin",
        Action.BAN: "admin",
        Action.RANK: "admin",
        Action.HAND_OVER: "owner",
        Action.DELETE_ROOM: "owner",
    }[action]


@pytest.mark.parametrize("action", Action)
def test_each_role_has_the_actions_of_the_contract_and_those_below_it(action):
    lowest = first_role(action)
    for kind, role in itertools.product(("direct", "group"), roles.ROLES):
        answer = refusal(action, kind=kind, role=role)
        if lowest is not None and roles.ROLES.index(role) >= roles.ROLES.index(lowest):
            assert answer is None
        else:
            assert answer == "forbidden"


@pytest.mark.parametrize("action", Action)
def test_capabilities_only_ever_add(action):
    for kind, role, caller in itertools.product(KINDS, (None, *roles.ROLES), CALLERS[:2]):
        for fewer, more in itertools.product(SETS, SETS):
            if (
                fewer <= more
                and refusal(action, kind=kind, role=role, capabilities=fewer, caller=caller) is None
            ):
                assert (
                    refusal(action, kind=kind, role=role, capabilities=more, caller=caller) is None
                )


def test_what_each_capability_gives_to_somebody_who_is_no_member():
    def given(name: str) -> set[Action]:
        return {
            action
            for action in Action
            if refusal(action, kind="group", role=None, capabilities=[name]) is None
        }

    assert given("join") == {Action.READ, Action.REACT}
    assert given("publish") == given("join") | {
        Action.PUBLISH,
        Action.TYPE,
        Action.SIGNAL,
        Action.EDIT_OWN,
        Action.DELETE_OWN,
    }
    assert given("moderate") == {Action.DELETE_OTHERS, Action.MUTE}
    assert given("everything") == set()


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("kind", ["direct", "group"])
def test_rooms_of_others_do_not_exist_for_a_token_and_say_not_a_member_to_a_key(action, kind):
    assert refusal(action, kind=kind, role=None) == "room_not_found"
    assert refusal(action, kind=kind, role=None, caller="key_user") == "not_a_member"
    assert refusal(action, kind=kind, role=None, caller="project") is None


def test_public_rooms_are_read_and_joined_by_all_and_written_by_members():
    allowed = {a for a in Action if refusal(a, kind="public", role=None) is None}
    assert allowed == {Action.READ, Action.JOIN}
    assert refusal(Action.PUBLISH, kind="public", role=None) == "not_a_member"
    assert refusal(Action.PUBLISH, kind="public", role="reader") == "forbidden"
    assert refusal(Action.PUBLISH, kind="public", role="member") is None


def test_an_unknown_role_gives_nothing():
    assert refusal(Action.READ, kind="group", role="emperor") == "forbidden"


def test_a_room_is_invisible_exactly_when_it_answers_room_not_found():
    for kind, role, caps, caller in itertools.product(KINDS, (None, "reader"), SETS, CALLERS):
        answers = {
            refusal(a, kind=kind, role=role, capabilities=caps, caller=caller) for a in Action
        }
        assert is_visible(kind, role, caps, caller) == ("room_not_found" not in answers)


@pytest.mark.parametrize("action", Action)
def test_mute_and_freeze_silence_writing_and_nothing_else(action):
    writes = {Action.PUBLISH, Action.TYPE, Action.SIGNAL, Action.EDIT_OWN, Action.REACT}
    silenced = action in writes
    assert is_silenced(action, role="member", frozen=False, muted=True) == silenced
    assert is_silenced(action, role="member", frozen=True, muted=False) == silenced
    assert not is_silenced(action, role="member", frozen=False, muted=False)
    assert not is_silenced(action, role="admin", frozen=True, muted=False)
    assert not is_silenced(
        action, role="member", capabilities={"moderate"}, frozen=True, muted=False
    )
