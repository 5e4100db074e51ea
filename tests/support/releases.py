"""Releases beside the one under test: a copy of it that is one migration ahead.

A process of another release is one whose PYTHONPATH begins with that release's folder.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import trio

from storage.postgres.schema import known_revisions
from tests.support.sources import PACKAGES, ROOT
from tests.support.tokens import JWT_SECRET

NEXT = "9000"
"""The revision of the copy's own migration."""
# What a migration may do while the release before it serves: a column with a constant default, one
# that may be null, an index, a table.
_SQL = """-- 9000 next: what any next release may add.

ALTER TABLE rooms ADD COLUMN next_flag boolean NOT NULL DEFAULT false;
ALTER TABLE members ADD COLUMN next_note text;
ALTER TABLE messages ADD COLUMN next_note text;
ALTER TABLE users ADD COLUMN next_note text;
CREATE INDEX members_next ON members (room_pk, next_note) WHERE next_note IS NOT NULL;
CREATE TABLE next_things (room_pk bigint PRIMARY KEY REFERENCES rooms (pk), thing text NOT NULL);
"""


def copy_release(folder: Path) -> Path:
    """The product with one more migration, as the next release will be."""
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    migrations = folder / "storage" / "postgres" / "migrations"
    (migrations / "sql" / f"{NEXT}_next.sql").write_text(_SQL, encoding="utf-8")
    newest = known_revisions()[-1]
    (source,) = (migrations / "versions").glob(f"r{newest}_*.py")
    lines = source.read_text(encoding="utf-8").splitlines()
    text = "\n".join(
        f'revision: Final = "{NEXT}"'
        if line.startswith("revision:")
        else f'down_revision: Final = "{newest}"'
        if line.startswith("down_revision:")
        else line.replace(f"{source.stem.removeprefix('r')}.sql", f"{NEXT}_next.sql")
        for line in lines
    )
    (migrations / "versions" / f"r{NEXT}_next.py").write_text(text + "\n", encoding="utf-8")
    return folder


async def run_migrate(release: Path, database_url: str) -> str:
    """`parley migrate` of a release; what it printed."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    ended = await trio.run_process(
        [sys.executable, "-m", "parley", "migrate"],
        cwd=release,
        env=kept
        | {"PYTHONPATH": str(release), "DATABASE_URL": database_url, "JWT_SECRET": JWT_SECRET},
        capture_stdout=True,
        stderr=subprocess.STDOUT,
        check=False,
    )
    text = ended.stdout.decode()
    assert ended.returncode == 0, text
    return text
