"""nginx, httpd and redis, laid out as the images of these names are."""

from __future__ import annotations

from collections.abc import Sequence

from labkit.host.image.standins.common import PATH, StandIn
from labkit.host.image.standins.layered import Recipe, make, script
from labkit.host.image.standins.packages import Package
from labkit.host.image.standins.rootfs import RootBuilder

__all__ = ["build_httpd", "build_nginx", "build_redis"]


def _nginx(root: RootBuilder, _: Sequence[Package]) -> None:
    root.text("docker-entrypoint.sh", script("nginx-entrypoint.sh"), 0o755)
    root.folder("docker-entrypoint.d")
    root.text("etc/nginx/nginx.conf", script("nginx.conf"))
    root.text("etc/nginx/conf.d/default.conf", script("nginx-default.conf"))
    root.text("usr/share/nginx/html/index.html", script("nginx-index.html"))
    root.text("usr/share/nginx/html/50x.html", script("nginx-50x.html"))
    root.folder("var/lib/nginx")
    root.folder("var/cache/nginx")
    # As in the image of that name: `docker logs` shows what the server logs.
    root.symlink("var/log/nginx/access.log", "/dev/stdout")
    root.symlink("var/log/nginx/error.log", "/dev/stderr")


def build_nginx() -> StandIn:
    """Raises Unsupported when the package can neither be found here nor fetched."""
    return make(
        Recipe(
            "nginx",
            ("nginx", "nginx-common"),
            "the real nginx",
            {
                "Env": [PATH],
                "Entrypoint": ["/docker-entrypoint.sh"],
                "Cmd": ["nginx", "-g", "daemon off;"],
                "ExposedPorts": {"80/tcp": {}},
                "StopSignal": "SIGQUIT",
            },
            (
                'ENTRYPOINT ["/docker-entrypoint.sh"]',
                "EXPOSE 80/tcp",
                "STOPSIGNAL SIGQUIT",
                'CMD ["nginx" "-g" "daemon off;"]',
            ),
            accounts=(("nginx", 101, "/nonexistent", "/bin/false"),),
            left_out=r"/etc/nginx/(sites-|nginx\.conf|modules-)|/usr/share/nginx/html/|/var/www/",
            main="/usr/sbin/nginx",
            finish=_nginx,
        )
    )


def _httpd(root: RootBuilder, _: Sequence[Package]) -> None:
    home = "usr/local/apache2"
    root.text(f"{home}/conf/httpd.conf", script("httpd.conf"))
    root.text(f"{home}/htdocs/index.html", "<html><body><h1>It works!</h1></body></html>\n")
    root.text(f"{home}/bin/httpd", script("httpd.sh"), 0o755)
    root.text("usr/local/bin/httpd-foreground", script("httpd-foreground.sh"), 0o755)
    root.text("etc/mime.types", script("mime.types"))
    root.folder(f"{home}/logs")
    root.folder(f"{home}/conf/extra")
    root.symlink(f"{home}/modules", "/usr/lib/apache2/modules")


def build_httpd() -> StandIn:
    """Raises Unsupported when the package can neither be found here nor fetched."""
    return make(
        Recipe(
            "httpd",
            ("apache2-bin",),
            "the real Apache httpd",
            {
                "Env": [
                    f"PATH=/usr/local/apache2/bin:{PATH[5:]}",
                    "HTTPD_PREFIX=/usr/local/apache2",
                ],
                "Cmd": ["httpd-foreground"],
                "ExposedPorts": {"80/tcp": {}},
                "WorkingDir": "/usr/local/apache2",
                "StopSignal": "SIGWINCH",
            },
            (
                "WORKDIR /usr/local/apache2",
                "STOPSIGNAL SIGWINCH",
                "EXPOSE 80/tcp",
                'CMD ["httpd-foreground"]',
            ),
            main="/usr/sbin/apache2",
            finish=_httpd,
        )
    )


def _redis(root: RootBuilder, _: Sequence[Package]) -> None:
    root.text("usr/local/bin/docker-entrypoint.sh", script("redis-entrypoint.sh"), 0o755)
    root.folder("data", uid=999, gid=999)


def build_redis() -> StandIn:
    """Raises Unsupported when the package can neither be found here nor fetched."""
    return make(
        Recipe(
            "redis",
            ("redis-server", "redis-tools"),
            "the real redis",
            {
                "Env": [PATH],
                "Entrypoint": ["docker-entrypoint.sh"],
                "Cmd": ["redis-server"],
                "ExposedPorts": {"6379/tcp": {}},
                "Volumes": {"/data": {}},
                "WorkingDir": "/data",
            },
            (
                "VOLUME [/data]",
                "WORKDIR /data",
                'ENTRYPOINT ["docker-entrypoint.sh"]',
                "EXPOSE 6379/tcp",
                'CMD ["redis-server"]',
            ),
            accounts=(("redis", 999, "/data", "/bin/false"),),
            left_out=r"/etc/redis/|/var/lib/redis",
            main="/usr/bin/redis-server",
            finish=_redis,
        )
    )
