"""The `parley` command: reads options, hands over to a composition root, turns errors into lines.

Rules: a user's mistake is one line on stderr, never a traceback: exit status 2 for configuration
and usage, 1 for a server that is away or refuses, 130 for Ctrl-C. What a command needs is
imported when it runs, so that `--help` and `token` are quick and a process loads only its own
part. The variables of the environment are read here and passed down; nobody below reads them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

from config.durations import parse_duration
from config.errors import ConfigError
from parley.database_commands import apikey, deadletters
from storage.errors import StorageRefused, StorageUnavailable

_UserError = ConfigError | StorageUnavailable | StorageRefused | click.ClickException


def _parse_seconds(_ctx: click.Context, _param: click.Parameter, text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _print_version(ctx: click.Context, _param: click.Parameter, is_asked: bool) -> None:
    if not is_asked:
        return
    try:
        click.echo(f"parley {version('parley')}")
    except PackageNotFoundError:
        click.echo("parley, run from its sources without being installed")
    ctx.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Parley, a realtime chat broker. Variables are read from the environment and .env."""


cli.add_command(apikey)
cli.add_command(deadletters)


@cli.command()
@click.option("--ephemeral", is_flag=True, help="Keep nothing: data is gone when it stops.")
@click.option("--broker-port", type=click.IntRange(0, 65535), help="Port of the broker; 0: any.")
@click.option("--api-port", type=click.IntRange(0, 65535), help="Port of the API; 0: any.")
@click.option(
    "--env-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write KEY=value lines here once everything is ready.",
)
def up(
    ephemeral: bool, broker_port: int | None, api_port: int | None, env_file: Path | None
) -> None:
    """Run the whole system on this machine, with private Redis and PostgreSQL."""
    with _needs("embedded"):
        from workers.supervisor.main import UpOptions, run_up
    options = UpOptions(
        ephemeral=ephemeral, broker_port=broker_port, api_port=api_port, env_file=env_file
    )
    raise SystemExit(run_up(options))


@cli.command()
def broker() -> None:
    """Run one broker (or BROKER_PROCESSES of them) in the foreground."""
    from parley.serving import run_broker

    run_broker()


@cli.command()
def api() -> None:
    """Run the REST API in the foreground."""
    from parley.serving import run_api

    run_api()


@cli.command()
def archiver() -> None:
    """Run one archiver in the foreground."""
    from parley.serving import run_archiver

    run_archiver()


@cli.command()
def migrate() -> None:
    """Bring the database to the newest schema. Safe to repeat and from two hosts at once."""
    from parley.administration import run_migrate

    click.echo(run_migrate())


@cli.command()
@click.option(
    "--skip",
    type=click.IntRange(0, 10**12),
    default=1_000_000,
    show_default=True,
    help="How many message numbers each room leaves out; 0 if Redis was kept.",
)
def restored(skip: int) -> None:
    """Run once after PostgreSQL was restored to an earlier time, before everything else."""
    from parley.restoring import run_restored

    click.echo(run_restored(skip))


@cli.command()
@click.option("--user", required=True, metavar="ID", help="Whom the token is for.")
@click.option(
    "--ttl", callback=_parse_seconds, default="24h", show_default=True, help="How long it lasts."
)
@click.option("--project", default="default", show_default=True, help="The user's project.")
@click.option("--name", help="Display name, should the token create the user.")
@click.option(
    "--room",
    "rooms",
    multiple=True,
    metavar="ROOM",
    help="A room that the token lets read and write in; may be repeated.",
)
def token(user: str, ttl: float, project: str, name: str | None, rooms: Sequence[str]) -> None:
    """Print a user token signed with JWT_SECRET."""
    from broker.domain.identity import mint_token
    from config.settings import load_settings

    capabilities: Mapping[str, list[str]] = {room: ["join", "publish"] for room in rooms}
    try:
        text, _ = mint_token(
            load_settings(), user=user, project=project, ttl=ttl, rooms=capabilities, name=name
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    click.echo(text)


@cli.command()
@click.option("--rooms", is_flag=True, help="Also check every room's keys in Redis.")
def check(rooms: bool) -> None:
    """Test the configuration and every connection, one line each."""
    from parley.checking import run_checks

    raise SystemExit(run_checks(with_rooms=rooms))


@cli.command()
@click.option(
    "--env-file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path(".parley/env"),
    show_default=True,
    help="What `parley up --env-file` has written.",
)
@click.option("--room", metavar="ID", help="Where to talk; default: the room of the env file.")
@click.option(
    "--seconds",
    type=click.FloatRange(1, 3600),
    default=90.0,
    show_default=True,
    help="When to stop at the latest.",
)
@click.option(
    "--pace",
    type=click.FloatRange(0.1, 100),
    default=1.0,
    show_default=True,
    help="How fast they are; 2 is twice as fast.",
)
def demo(env_file: Path, room: str | None, seconds: float, pace: float) -> None:
    """Let three scripted users talk in a room of a running `parley up`, to watch it move."""
    from workers.demo.main import DemoOptions, read_env_file, run_demo

    options = DemoOptions(read_env_file(env_file), room=room, seconds=seconds, pace=pace)
    raise SystemExit(run_demo(options, click.echo))


@cli.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(arguments: Sequence[str]) -> None:
    """Measure this machine: the load generator."""
    with _needs("embedded"):
        from bench.main import main as bench_main
    bench_main.main(args=list(arguments), prog_name="parley bench")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command of `arguments` (default: the process's own); returns the exit status."""
    try:
        cli.main(args=arguments, prog_name="parley", standalone_mode=False)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except (KeyboardInterrupt, click.Abort):
        return 130
    except Exception as error:
        found = _user_error(error)
        if found is None:
            raise
        return _report(found)
    except BaseExceptionGroup as group:
        if group.split(KeyboardInterrupt)[1] is None:
            return 130
        raise
    return 0


def _user_error(error: BaseException) -> _UserError | None:
    """Return the user's mistake that `error` is, or that each member of a group is."""
    if isinstance(error, BaseExceptionGroup):
        found = [_user_error(member) for member in error.exceptions]
        return None if None in found else found[0]
    return error if isinstance(error, _UserError) else None


def _report(error: _UserError) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return error.exit_code
    if isinstance(error, click.ClickException):
        click.echo(f"parley: {error.format_message()}", err=True)
        return error.exit_code
    click.echo(f"parley: {error}", err=True)
    return 2 if isinstance(error, ConfigError) else 1


@contextmanager
def _needs(extra: str) -> Iterator[None]:
    """Turn a missing optional package into one line."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"{error.name} is not installed; it comes with: pip install 'parley[{extra}]'"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
