"""The files of deploy/ as they are, judged by the programs that read them."""

import re
import subprocess
from pathlib import Path

import pytest

from config.api_limits import API_BODY_BYTES_MAX, API_KEEP_ALIVE
from config.settings import load_settings
from config.wire_limits import HEAD_BYTES_MAX
from tests.deploy.balancers import DEPLOY, HAProxy, Nginx, program


def run(*command: str) -> str:
    """What a program says about a file; it must approve, without a warning."""
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    said = ended.stdout + ended.stderr
    assert ended.returncode == 0, said
    return said


def test_haproxy_takes_its_file() -> None:
    """As the ordinary user too; a warning would have a line of its own."""
    said = run(program("haproxy"), "-c", "-f", str(DEPLOY / "haproxy.cfg"))
    assert "Configuration file is valid" in said
    assert "WARNING" not in said


@pytest.mark.parametrize("kind", [HAProxy, Nginx])
def test_what_tests_render_is_the_file_but_for_marked_lines(
    kind: type[HAProxy] | type[Nginx], tmp_path: Path
) -> None:
    balancer = kind(tmp_path, [1001, 1002, 1003], [1004, 1005])
    original = (DEPLOY / kind.name).read_text(encoding="utf-8")
    kept = [line for line in original.splitlines() if not line.endswith("# ADJUST")]
    rendered = balancer.config.read_text(encoding="utf-8").splitlines()
    assert [line for line in rendered if line in set(kept)] == kept
    check = {"haproxy.cfg": ("haproxy", "-c", "-f"), "nginx.conf": ("nginx", "-t", "-c")}
    command, *options = check[kind.name]
    assert "warn" not in run(program(command), *options, str(balancer.config)).lower()


def test_nginx_takes_its_file_where_it_may_open_the_logs(tmp_path: Path) -> None:
    """The file itself, but for the four lines that only root may use."""
    text = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    for word in ("user ", "pid ", "error_log ", "    access_log ", "    include "):
        text = re.sub(rf"^{word}.*\n", "", text, flags=re.MULTILINE)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    own = "".join(f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in kinds)
    text = text.replace("http {\n", f"http {{\n{own}access_log {tmp_path}/access.log;\n")
    text = text.replace("listen 80 ", "listen 127.0.0.1:10080 ")
    file = tmp_path / "nginx.conf"
    file.write_text(f"pid {tmp_path}/pid;\nerror_log {tmp_path}/error.log;\n{text}")
    assert "test is successful" in run(program("nginx"), "-t", "-c", str(file))


def test_sizes_and_times_are_ours() -> None:
    """Body, request head, silence and idle connections: what the balancers allow fits."""
    haproxy = (DEPLOY / "haproxy.cfg").read_text(encoding="utf-8")
    nginx = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    assert f"content-length) gt {API_BODY_BYTES_MAX} " in haproxy
    assert f"client_max_body_size {API_BODY_BYTES_MAX // 2**20}m;" in nginx
    assert int(found(r"tune\.bufsize (\d+)", haproxy)) >= 1.5 * HEAD_BYTES_MAX
    assert int(found(r"large_client_header_buffers 4 (\d+)k", nginx)) * 1024 >= HEAD_BYTES_MAX
    pause = load_settings(None).ping_interval
    assert int(found(r"timeout tunnel +(\d+)s", haproxy)) >= 3 * pause
    assert int(found(r"proxy_read_timeout (\d+)s;\s+proxy_send", nginx)) >= 3 * pause
    assert int(found(r"keepalive 64;\s+keepalive_timeout (\d+)s", nginx)) < API_KEEP_ALIVE
    assert int(found(r"timeout http-keep-alive (\d+)s", haproxy)) < API_KEEP_ALIVE


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match is not None, pattern
    return match[1]
