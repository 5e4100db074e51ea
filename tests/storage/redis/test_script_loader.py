"""Scripts: headers that tell the truth, includes, calling by digest, forgotten scripts."""

import hashlib
import re
from pathlib import Path

import pytest
import trio
from redis.exceptions import NoScriptError, ResponseError

from storage.errors import StorageUnavailable
from storage.redis.client import open_redis, pack
from storage.redis.script_loader import (
    Parameters,
    Script,
    ScriptSet,
    pack_evalsha,
    parse_parameters,
    run_script,
)

HEADER = "-- A script for tests.\n-- KEYS: first, second\n-- ARGV: a, b\n-- RETURNS: it\n"
NAMES = sorted(ScriptSet.load())


def write(folder: Path, **texts: str) -> Path:
    (folder / "lib").mkdir()
    for name, text in texts.items():
        place = name.replace("lib_", "lib/", 1)
        (folder / f"{place}.lua").write_text(text)
    return folder


def find_breach(parameters: Parameters, kind: str, text: str) -> str | None:
    """How the code's use of KEYS or ARGV differs from what the header says; None if it does not."""
    code = "\n".join(line.partition("--")[0] for line in text.splitlines())
    used = [int(number) for number in re.findall(rf"\b{kind}\s*\[\s*(\d+)\s*\]", code)]
    highest = max(used, default=0)
    least, most = len(parameters.fixed), len(parameters.fixed) + len(parameters.repeated)
    others = len(re.findall(rf"\b{kind}\b", code)) - len(used)
    if not parameters.repeated and others:
        return f"{kind} is used as a whole, yet the header names a fixed number"
    if parameters.repeated and not others:
        return f"the header says that {kind} repeats, yet the code never looks beyond"
    if not least <= highest <= most:
        return f"the header names {least} to {most} of {kind}, the code uses {highest}"
    return None


@pytest.mark.parametrize("name", NAMES)
def test_the_header_of_every_script_names_what_it_uses(name):
    script = ScriptSet.load()[name]
    assert find_breach(script.keys, "KEYS", script.text) is None
    assert find_breach(script.args, "ARGV", script.text) is None
    assert script.returns


@pytest.mark.parametrize(
    ("line", "code", "is_good"),
    [
        ("a, b", "return ARGV[1] .. ARGV[2]", True),
        ("a, b", "return ARGV[1]", False),
        ("a, b", "return ARGV[3]", False),
        ("a, b", "return ARGV[1] -- ARGV[2]", False),
        ("a, b", "return ARGV[1] .. ARGV[2] .. #ARGV", False),
        ("a, b...", "return ARGV[1] .. #ARGV", True),
        ("a, b...", "return ARGV[1] .. ARGV[2]", False),
        ("a, then for each room: R, offset...", "return ARGV[1] .. ARGV[i] .. ARGV[i + 1]", True),
        ("a, then for each room: R, offset...", "return ARGV[9] .. #ARGV", False),
        ("(none)", "return 1", True),
        ("(none: they follow from the tags)", "return ARGV[1]", False),
    ],
)
def test_what_the_comparison_of_header_and_code_finds(line, code, is_good):
    assert (find_breach(parse_parameters(line), "ARGV", code) is None) == is_good


@pytest.mark.parametrize(
    ("line", "parameters"),
    [
        ("", Parameters(())),
        ("none", Parameters(())),
        ("(none: for a reason, and another)", Parameters(())),
        ("a", Parameters(("a",))),
        ("a, b", Parameters(("a", "b"))),
        ("a, b...", Parameters(("a",), ("b...",))),
        ("a, then for each: b, c...", Parameters(("a",), ("then for each: b", "c..."))),
    ],
)
def test_parameters(line, parameters):
    assert parse_parameters(line) == parameters


def test_a_script_knows_its_header_and_its_digest(tmp_path):
    text = HEADER + "return {KEYS[1], KEYS[2], ARGV[1], ARGV[2]}\n"
    script = ScriptSet.load(["one"], write(tmp_path, one=text))["one"]
    assert script.purpose == "A script for tests."
    assert script.keys == Parameters(("first", "second"))
    assert script.returns == "it"
    assert script.text == text
    assert script.sha == hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def test_includes_are_spliced_in_place_also_nested(tmp_path):
    folder = write(
        tmp_path,
        one=HEADER + "-- include: outer\nreturn outer()\n",
        lib_outer="-- include: inner\nlocal function outer() return inner() end",
        lib_inner="local function inner() return 7 end\n",
    )
    text = ScriptSet.load(folder=folder)["one"].text
    assert text.endswith(
        "local function inner() return 7 end\n"
        "local function outer() return inner() end\n"
        "return outer()\n"
    )
    assert "include" not in text


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"one": "-- Purpose.\n-- KEYS: a\n-- RETURNS: 1\nreturn 1"}, "one.lua: .*lacks ARGV"),
        ({"one": "return 1"}, "one.lua: .*lacks ARGV, KEYS, RETURNS"),
        ({"one": HEADER.partition("\n")[2] + "return 1"}, "one.lua: .*lacks its purpose"),
        (
            {"one": HEADER + "-- include: a", "lib_a": "-- include: b", "lib_b": "-- include: a"},
            "lib/a.lua includes itself",
        ),
    ],
)
def test_a_bad_header_or_include_is_refused(tmp_path, texts, message):
    with pytest.raises(ValueError, match=message):
        ScriptSet.load(folder=write(tmp_path, **texts))


def test_a_name_without_a_file_is_refused(tmp_path):
    folder = write(tmp_path, one=HEADER + "-- include: nothing\n")
    for name in ("nothing", "one"):
        with pytest.raises(FileNotFoundError):
            ScriptSet.load([name], folder)


def test_a_set_is_a_mapping_of_the_scripts_asked_for(tmp_path):
    folder = write(tmp_path, one=HEADER, two=HEADER, three=HEADER)
    assert sorted(ScriptSet.load(folder=folder)) == ["one", "three", "two"]
    some = ScriptSet.load(["one", "two"], folder)
    assert (len(some), "three" in some) == (2, False)


def test_a_packed_call_is_the_command_redis_expects():
    script = ScriptSet.load([NAMES[0]])[NAMES[0]]
    assert pack_evalsha(script, ("k", b"l"), [1, "a", b"\0"]) == pack(
        "EVALSHA", script.sha, 2, "k", "l", 1, "a", b"\0"
    )


@pytest.fixture
def echo(tmp_path: Path) -> tuple[ScriptSet, Script]:
    text = HEADER + "return {KEYS[1], KEYS[2], ARGV[1], ARGV[2]}\n"
    scripts = ScriptSet.load(folder=write(tmp_path, echo=text))
    return scripts, scripts["echo"]


async def test_every_script_of_the_product_compiles_and_is_known_by_its_digest(redis_url):
    scripts = ScriptSet.load()
    async with open_redis(redis_url, prepare=scripts.load_all) as client:
        await client.wait_connected(trio.current_time() + 5)
        shas = [script.sha for script in scripts.values()]
        assert await client.commands.script_exists(*shas) == [True] * len(scripts)


async def test_a_script_that_does_not_compile_names_itself(redis_url, tmp_path):
    scripts = ScriptSet.load(folder=write(tmp_path, one=HEADER + "no lua\n"))
    async with open_redis(redis_url) as client:
        await client.wait_connected(trio.current_time() + 5)
        with pytest.raises(ResponseError) as caught:
            await scripts.load_all(client)
        assert caught.value.__notes__ == ["while loading the script one"]


async def test_a_forgotten_script_is_loaded_again(redis_url, echo):
    scripts, script = echo
    async with open_redis(redis_url, prepare=scripts.load_all) as client:
        await client.wait_connected(trio.current_time() + 5)
        await client.execute("SCRIPT", "FLUSH")
        with pytest.raises(NoScriptError):
            await client.execute_packed(pack_evalsha(script, "kl", "ab"))
        for _ in range(2):
            reply = await run_script(client, script, ("k", "l"), ("a", b"b"))
            assert reply == [b"k", b"l", b"a", b"b"]


async def test_flushing_the_scripts_again_and_again_fails_no_caller(redis_url, echo):
    scripts, script = echo

    async def call(caller: int) -> None:
        for turn in range(20):
            reply = await run_script(client, script, ("k", "l"), (caller, turn))
            assert isinstance(reply, list)
            assert [int(value) for value in reply[2:]] == [caller, turn]

    async with open_redis(redis_url, prepare=scripts.load_all) as client:
        await client.wait_connected(trio.current_time() + 5)
        async with trio.open_nursery() as nursery:
            for caller in range(50):
                nursery.start_soon(call, caller)
            for _ in range(20):
                await client.execute("SCRIPT", "FLUSH")


async def test_errors_of_a_script_are_raised(redis_url, tmp_path):
    text = HEADER + "return redis.call('LPUSH', KEYS[1], ARGV[1])\n"
    script = ScriptSet.load(folder=write(tmp_path, one=text))["one"]
    async with open_redis(redis_url) as client:
        await client.wait_connected(trio.current_time() + 5)
        await client.execute("SET", "k", 1)
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await run_script(client, script, ("k", "l"), ("a", "b"))
    with pytest.raises(StorageUnavailable):
        await run_script(client, script, ("k", "l"), ("a", "b"))
