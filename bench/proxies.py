"""Real proxies before Parley, with the configuration that deploy/ ships: only names, addresses and paths are changed.

    with Nginx(["127.0.0.1:8001", "127.0.0.1:8002"], static=data / "static") as proxy:
        proxy.url           http://localhost:20123

With a certificate they speak TLS, as in the shipped file; without one, plain HTTP on the same address. They need no root.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

from bench.proxy import DEPLOY, Proxy, program, replaced

__all__ = ["PROXIES", "Caddy", "HAProxy", "Nginx", "Proxy", "program", "replaced"]


class Nginx(Proxy):
    """nginx: the shipped site in the smallest main file that an ordinary user can run."""

    name = "nginx"
    shipped = "nginx.conf"

    def configuration(self) -> str:
        servers = "".join(f"server {address} max_fails=0;\n" for address in self.processes)
        return replaced((DEPLOY / self.shipped).read_text(), self.addresses() | self.encryption()).replace(
            "# PROCESSES\n", servers
        )

    def addresses(self) -> dict[str, str]:
        """What a test host has instead of the shipped names and ports."""
        return {
            r"(^ *server 127\.0\.0\.1:\d+ max_fails=0;\n)+": "# PROCESSES\n",
            r"^ *listen \[::\].*;$": "",
            r"listen 80;": f"listen 127.0.0.1:{self.redirect_port};",
            r"https://\$server_name": self.url,
            r"server_name chat\.example\.org;": "server_name localhost;",
            r"root /var/lib/parley;": f"root {self.static.parent};",
        }

    def encryption(self) -> dict[str, str]:
        """The certificate, or no TLS at all."""
        if not self.certificate:
            return {r"listen 443 ssl http2;": f"listen 127.0.0.1:{self.port};", r"^ *ssl_.*;$": ""}
        return {
            r"listen 443 ssl http2;": f"listen 127.0.0.1:{self.port} ssl http2;",
            r"ssl_certificate .*;": f"ssl_certificate {self.certificate.chain};",
            r"ssl_certificate_key .*;": f"ssl_certificate_key {self.certificate.key};",
        }

    def write(self, text: str) -> None:
        super().write(text)
        self.main().write_text(MAIN.format(home=self.directory, site=self.file, **self.place()))

    def main(self) -> Path:
        return self.directory / "main.conf"

    def place(self) -> dict[str, str]:
        """Where this nginx keeps its list of file types, and who it runs as: its workers would leave root's files alone."""
        said = subprocess.run([self.program, "-V"], capture_output=True, text=True, check=True).stderr
        found = re.search(r"--conf-path=(\S+)", said)
        home = Path(found[1]).parent if found else Path("/etc/nginx")
        return {"types": str(home / "mime.types"), "user": "user root;" if os.geteuid() == 0 else ""}

    def command(self) -> list[str]:
        return [self.program, "-e", "stderr", "-p", str(self.directory), "-c", str(self.main())]

    def check_command(self) -> list[str]:
        return [*self.command(), "-t"]

    def reload(self) -> None:
        """Read the configuration again, without ending what is under way."""
        assert self.process
        self.process.send_signal(signal.SIGHUP)


class Caddy(Proxy):
    """Caddy, with the test's certificate in place of one that it would fetch."""

    name = "caddy"
    shipped = "Caddyfile"
    repeats = False  # not with a body, which Caddy 2.6 has lost by then, and not after 503: clients have to ask again

    def configuration(self) -> str:
        assert self.certificate
        ports = f"http_port {self.redirect_port}\n\thttps_port {self.port}\n\tadmin off\n\tskip_install_trust"
        site = f"localhost {{\n\tbind 127.0.0.1\n\ttls {self.certificate.chain} {self.certificate.key}"
        changes = {
            r"^\{$": f"{{\n\t{ports}",
            r"^chat\.example\.org \{": site,
            r"Host chat\.example\.org": "Host localhost",
            r"root \* /var/lib/parley": f"root * {self.static.parent}",
            r"reverse_proxy( 127\.0\.0\.1:\d+)+": "reverse_proxy " + " ".join(self.processes),
        }
        return replaced((DEPLOY / self.shipped).read_text(), changes)

    def env(self) -> dict[str, str]:
        return super().env() | {"XDG_DATA_HOME": str(self.directory), "XDG_CONFIG_HOME": str(self.directory)}

    def command(self) -> list[str]:
        return [self.program, "run", "--config", str(self.file), "--adapter", "caddyfile"]

    def check_command(self) -> list[str]:
        return [self.program, "validate", "--config", str(self.file), "--adapter", "caddyfile"]


class HAProxy(Proxy):
    """HAProxy, which asks Parley for static files, too."""

    name = "haproxy"
    shipped = "haproxy.cfg"

    def configuration(self) -> str:
        assert self.certificate
        servers = "".join(f"    server p{number} {address}\n" for number, address in enumerate(self.processes))
        changes = {
            r"^    (user|group|chroot) .*\n": "",
            r"log /dev/log local0": "log stdout format raw local0",
            r"maxconn \d+ .*": "maxconn 2000",  # needs twice as many files
            r"bind :80$": f"bind 127.0.0.1:{self.redirect_port}",
            r"bind :443 ssl crt \S+": f"bind 127.0.0.1:{self.port} ssl crt {self.certificate.both}",
            r"Host chat\.example\.org": "Host localhost",
            r"(^    server (one|two|three) .*\n)+": servers,
        }
        return replaced((DEPLOY / self.shipped).read_text(), changes)

    def command(self) -> list[str]:
        return [self.program, "-db", "-f", str(self.file)]

    def check_command(self) -> list[str]:
        return [self.program, "-c", "-f", str(self.file)]


PROXIES: list[type[Proxy]] = [Nginx, Caddy, HAProxy]


MAIN = """
{user}
daemon off;
worker_processes 2;
pid {home}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
    include {types};
    default_type application/octet-stream;
    access_log {home}/access.log;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    gzip on;  # as Debian's main file has it
    include {site};
}}
"""
