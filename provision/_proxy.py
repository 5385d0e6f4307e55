"""A host's way out through a proxy, in shell: what its own environment and apt say.

Nothing of it travels: addresses that may hold a password are read and used on the host alone.
Pure text. Knows nothing of pyinfra.
"""

NAMES = ("http_proxy", "https_proxy", "no_proxy")

LOOPBACK = "localhost,127.0.0.1,::1"

ENVIRONMENT_FILE = "/etc/environment"

# The environment first: a login over SSH has read the file already, sudo and some others have not.
# Of apt only what it takes for https counts: what it takes for http is often a cache of packages,
# which lets nothing else through.
PROXIES = (
    "of_file() {",
    (
        f'  sed -n "s/^[[:space:]]*\\(export[[:space:]]*\\)\\{{0,1\\}}$1=//p" {ENVIRONMENT_FILE} '
        '2>/dev/null | tail -n 1 | sed "s/^[\\"\']//; s/[\\"\'][[:space:]]*$//"'
    ),
    "}",
    f"for name in {' '.join(NAMES)}; do",
    "  upper=$(echo $name | tr a-z A-Z)",
    "  value=$(printenv $name || printenv $upper || true)",
    '  [ -n "$value" ] || value=$(of_file $name)',
    '  [ -n "$value" ] || value=$(of_file $upper)',
    '  if [ -z "$value" ] && [ $name = https_proxy ]; then',
    "    eval $(apt-config shell value Acquire::https::Proxy 2>/dev/null || true)",
    '    case "$value" in DIRECT|direct|false) value= ;; esac',
    "  fi",
    '  if [ $name = no_proxy ] && [ -n "${http_proxy-}${https_proxy-}" ]; then',
    f'    case ",$value," in *,localhost,*) ;; *) value="${{value:+$value,}}{LOOPBACK}" ;; esac',
    "  fi",
    '  if [ -n "$value" ]; then export "$name=$value" "$upper=$value"; fi',
    "done",
)
"""Lines of the shell that export what there is, in small letters and in capitals."""

BUILD_ARGUMENTS = (
    "$(for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do "
    "! printenv $name >/dev/null || echo --build-arg $name; done)"
)
"""Arguments of ``docker build`` without values, which it takes from the environment.

BuildKit knows these names: they are part of no layer and of no history.
"""

RUN_ARGUMENTS = BUILD_ARGUMENTS.replace("--build-arg", "--env")
"""The same for ``docker run``."""

DROP_IN = "/etc/systemd/system/docker.service.d/sesame-csm-proxy.conf"
"""By which systemd tells the Docker daemon. Only root may read it."""

WANTED_DROP_IN = (
    *PROXIES,
    "wanted=",
    "for name in HTTP_PROXY HTTPS_PROXY NO_PROXY; do",
    "  value=$(printenv $name || true)",
    '  if [ -n "$value" ]; then',
    # systemd.exec(5), Environment=, and the specifiers of systemd.unit(5).
    '    value=$(printf %s "$value" | sed \'s/[\\\\"]/\\\\&/g; s/%/%%/g\')',
    '    wanted="$wanted\nEnvironment=\\"$name=$value\\""',
    "  fi",
    "done",
    '[ -z "$wanted" ] || wanted="[Service]$wanted"',
)
"""Lines of the shell that set ``wanted`` to what the drop-in should hold; empty: there is none."""
