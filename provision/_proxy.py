r"""What a host reaches the web through, in shell: found on the host, and never sent to it.

Pure functions that return text. Knows nothing of pyinfra, and no address of a proxy: a proxy's may
hold a password, so it stays in variables of the host's own shell, and in no command line.
"""

ENVIRONMENT_FILE = "/etc/environment"

NEAR = ("localhost", "127.0.0.1", "::1", "172.17.0.1")
"""What is never asked through a proxy: the host itself, and where containers find it by default.

Addresses and no networks, which not every program understands.
"""

VARIABLES = ("http_proxy", "https_proxy", "no_proxy")

_UNQUOTE = (
    r"""s/^[^=]*=//; s/#.*//; s/[[:space:]]*$//; s/^"\(.*\)"$/\1/; s/^'"'"'\(.*\)'"'"'$/\1/"""
)

PROXIES = (
    "proxy_named() {",
    "  for name in $1 $2; do value=$(printenv $name) && return 0; done",
    "  for name in $1 $2; do",
    (
        '    line=$(grep -sE "^[[:space:]]*(export[[:space:]]+)?$name=" '
        f"{ENVIRONMENT_FILE} | tail -n 1)"
    ),
    '    [ -n "$line" ] || continue',
    f"    value=$(printf '%s\\n' \"$line\" | sed '{_UNQUOTE}')",
    "    return 0",
    "  done",
    "  value=",
    "  return 1",
    "}",
    "proxy_address() {",
    '  case "$value" in DIRECT | false) value= ;; "" | *://*) ;; *) value=http://$value ;; esac',
    "}",
    "proxy_named http_proxy HTTP_PROXY || true",
    "proxy_address",
    "http_proxy=$value",
    (
        "proxy_named https_proxy HTTPS_PROXY || "
        'eval "$(apt-config shell value Acquire::https::Proxy 2>/dev/null)"'
    ),
    "proxy_address",
    "https_proxy=$value",
    "proxy_named no_proxy NO_PROXY || true",
    "no_proxy=$(printf '%s' \"$value\" | tr -d '[:space:]')",
    'if [ -n "$http_proxy$https_proxy" ]; then',
    f"  for near in {' '.join(NEAR)}; do",
    '    case ",$no_proxy," in *",$near,"* | *",*,"*) continue ;; esac',
    "    no_proxy=${no_proxy:+$no_proxy,}$near",
    "  done",
    "fi",
    *(
        f'if [ -n "${name}" ]; then {name.upper()}=${name}; export {name} {name.upper()}; '
        f"else unset {name} {name.upper()}; fi"
        for name in VARIABLES
    ),
)
"""Lines of the shell that export the host's proxies in both spellings, and only those it has.

Whoever says something first is believed, per variable, and an empty value says that there is none:
the environment (lower case before upper case, of which servers of old had to be wary), then
``/etc/environment`` in the form of pam_env, for runs that PAM has not seen; then, for https alone,
apt. Apt's proxy for http may be a store of packages, which leads nowhere else.
"""

OF_APT = tuple(
    line
    for protocol in ("http", "https")
    for line in (
        f'eval "$(apt-config shell {protocol}_proxy Acquire::{protocol}::Proxy)"',
        (
            f'case "${{{protocol}_proxy-}}" in "" | DIRECT | false) unset {protocol}_proxy ;; '
            f"*) export {protocol}_proxy ;; esac"
        ),
    )
)
"""Lines after ``PROXIES`` for what comes from apt's own mirrors: apt's proxies before others."""

BUILD_ARGUMENTS = " ".join(
    f"${{{spelt}:+--build-arg {spelt}}}" for name in VARIABLES for spelt in (name, name.upper())
)
"""Words after ``PROXIES`` that give a build the proxies: names without values.

Docker takes the values from its environment and keeps these names out of image and history.
"""

CONTAINER_VARIABLES = " ".join(f"${{{name}:+--env {name}}}" for name in VARIABLES)
"""Words after ``PROXIES`` that give a container the proxies: names without values."""

DROP_INS = "/etc/systemd/system/docker.service.d"
DROP_IN = f"{DROP_INS}/sesame-csm-proxy.conf"

DAEMON_PROXY_FILE = "/etc/docker/sesame-csm-proxy.env"
"""What the daemon's environment is read from, for root alone.

What stands in a unit or a drop-in itself, systemd tells every user of the host.
"""

DROP_IN_TEXT = f"[Service]\nEnvironmentFile=-{DAEMON_PROXY_FILE}\n"

DAEMON_WANTED = (
    *PROXIES,
    (
        f"theirs=$(ls {DROP_INS}/*.conf 2>/dev/null | grep -vx {DROP_IN} "
        "| xargs -r grep -il _proxy=) || true"
    ),
    "wanted=",
    'if [ -n "${http_proxy-}${https_proxy-}" ] && [ -z "$theirs" ]; then',
    "  wanted=$(for name in HTTP_PROXY HTTPS_PROXY NO_PROXY; do",
    "    value=$(printenv $name) || continue",
    ('    printf \'%s="%s"\\n\' $name "$(printf \'%s\' "$value" | sed \'s/["\\\\$`]/\\\\&/g\')"'),
    "  done)",
    "fi",
)
"""Lines that keep in ``wanted`` what the daemon's file is to hold; empty: there is to be none.

Where somebody else's drop-in names a proxy, that one holds.
"""

DAEMON_STATE = (
    *DAEMON_WANTED,
    'if [ -z "$wanted" ]; then',
    f"  if [ -e {DAEMON_PROXY_FILE} ] || [ -e {DROP_IN} ]; then echo unwanted; else echo same; fi",
    (
        f'elif [ "$wanted" != "$(cat {DAEMON_PROXY_FILE} 2>/dev/null)" ] || '
        f"[ \"$(stat --format '%a %u' {DAEMON_PROXY_FILE})\" != '600 0' ] || "
        f'[ "$(cat {DROP_IN} 2>/dev/null)" != "{DROP_IN_TEXT.rstrip()}" ]; then'
    ),
    "  echo differs",
    "else",
    "  echo same",
    "fi",
)
"""Lines that say in a word, and no other, how the daemon's proxies are beside the host's."""
