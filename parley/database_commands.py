"""The groups of commands on rows of PostgreSQL alone: `parley apikey`, `parley deadletters`.

As in `cli`: what a command needs is imported when it runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import click


@click.group()
def apikey() -> None:
    """Create, list and revoke the API keys of projects."""


@apikey.command("create")
@click.option("--project", required=True, metavar="NAME", help="Made if there is none yet.")
def apikey_create(project: str) -> None:
    """Print a new key. It is shown once and stored hashed."""
    from parley.administration import create_key

    click.echo(create_key(project))


@apikey.command("list")
@click.option("--project", metavar="NAME", help="Only this project's keys.")
def apikey_list(project: str | None) -> None:
    """List the keys: project, first characters, when created, used and revoked."""
    from parley.administration import list_keys

    for line in list_keys(project):
        click.echo(line)


@apikey.command("revoke")
@click.argument("key", metavar="ID_OR_PREFIX")
def apikey_revoke(key: str) -> None:
    """Revoke a key by its id or its first characters, as `list` shows them."""
    from parley.administration import revoke_key

    click.echo(revoke_key(key))


@click.group()
def deadletters() -> None:
    """List and put back events that could not be archived."""


@deadletters.command("list")
@click.option("--room", metavar="PROJECT/ROOM", help="Only this room's.")
@click.option("--bodies", is_flag=True, help="Also what people wrote.")
def deadletters_list(room: str | None, bodies: bool) -> None:
    """List them: room, numbers, kind of event, since when and why."""
    from parley.dead_letters import list_dead_letters

    for line in list_dead_letters(room, with_bodies=bodies):
        click.echo(line)


@deadletters.command("putback")
@click.argument("ids", metavar="[ID]...", nargs=-1, type=click.IntRange(1))
@click.option("--all", "all_of_them", is_flag=True, help="Every one that can be put back.")
def deadletters_putback(ids: Sequence[int], all_of_them: bool) -> None:
    """Archive them now that the cause is gone. May be repeated; status 1 if one has to stay."""
    from parley.dead_letters import put_back_letters

    if bool(ids) == all_of_them:
        raise click.UsageError("name letters by ID, or say --all")
    lines, is_whole = put_back_letters(ids, all_of_them=all_of_them)
    for line in lines:
        click.echo(line)
    raise SystemExit(0 if is_whole else 1)
