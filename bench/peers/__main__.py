"""`python -m bench.peers`: list, install and check the servers that Parley is measured against.

    python -m bench.peers list
    python -m bench.peers install [--apt] [NAME…]
    python -m bench.peers check [NAME…]

`check` starts each installed peer, sends a hundred messages in a room of five and holds them to
arriving (`bench.peers.check`); of a peer for history it reads pages. Exit status: 0 all that is
there works, 1 something failed. What can not be installed or is not there is named and no failure,
unless it was asked for by name.
"""

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from bench import servers, wire
from bench.connection import BenchError
from bench.peers import PEERS
from bench.peers.check import check_peer
from bench.peers.places import cache_folder
from bench.peers.server import HISTORY, ServerPeer

_names = click.argument("names", nargs=-1, metavar="[NAME]...")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder below which peers are installed.  [variable: PARLEY_PEERS]",
)
def main(cache: Path | None) -> None:
    """The servers that Parley is measured against."""
    if cache is not None:
        os.environ["PARLEY_PEERS"] = str(cache.resolve())


@main.command("list")
def list_command() -> None:
    """Every peer, and what is missing to run it."""
    click.echo(f"installed below {cache_folder()}")
    for peer in PEERS:
        click.echo(f"{peer.name:20} {peer.missing() or 'ready'}")


@main.command("install")
@click.option("--apt", "use_apt", is_flag=True, help="Fetch Debian's packages with apt-get.")
@_names
def install_command(use_apt: bool, names: Sequence[str]) -> None:
    """Install peers (all without NAME) into the cache folder."""
    failed = False
    for peer in _chosen(names):
        try:
            peer.package.install(use_apt=use_apt)
        except BenchError as error:
            click.echo(f"{peer.name:20} {error}", err=True)
            failed = True
        else:
            click.echo(f"{peer.name:20} installed")
    if failed and names:
        sys.exit(1)


@main.command("check")
@_names
def check_command(names: Sequence[str]) -> None:
    """Start peers (all without NAME), send messages, and hold them to arriving."""
    failed = 0
    passed = 0
    with contextlib.ExitStack() as stack:
        system: dict[str, str] = {}
        for peer in _chosen(names):
            reason = peer.missing()
            if reason is not None:
                click.echo(f"{peer.name:20} {reason}")
                failed += bool(names)
                continue
            try:
                if peer.scenarios == HISTORY and not system:
                    system = stack.enter_context(servers.open_system(None))
                line = check_peer(peer, system)
            except (BenchError, wire.WireError, OSError) as error:
                click.echo(f"{peer.name:20} FAILED: {error}")
                failed += 1
            else:
                click.echo(f"{peer.name:20} {line}")
                passed += 1
    click.echo(f"{passed} passed, {failed} failed")
    if failed:
        sys.exit(1)


def _chosen(names: Sequence[str]) -> Sequence[ServerPeer]:
    known = {peer.name: peer for peer in PEERS}
    for name in names:
        if name not in known:
            raise click.UsageError(f"no peer {name!r}; there are {', '.join(known)}")
    return [known[name] for name in names] if names else PEERS


if __name__ == "__main__":
    main(prog_name="python -m bench.peers")
