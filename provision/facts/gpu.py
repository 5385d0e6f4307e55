"""Which GPUs a host has, what can use them, and what its container sees of them."""

import json
import shlex
from typing import Any

from pyinfra.api import FactBase

from provision._gpu import ABSENT
from provision._proxy import PROXIES
from provision._release import CONTAINER

QUERY = "index,uuid,name,memory.total,driver_version,compute_cap,mig.mode.current"
SMI_TIMEOUT_SECONDS = 30  # the first answer of eight GPUs without persistence takes a dozen
PROOF_TIMEOUT_SECONDS = 120

NO_PROOF = {"proof": "failed", "error": "no_answer", "detail": "it ended without a word"}
"""What stands for a proof that was not given."""

SIGHT = f"""PATH=$PATH:/usr/lib/wsl/lib
for card in /sys/bus/pci/devices/*; do
  [ "$(cat $card/vendor 2>/dev/null)" = 0x10de ] || continue
  case $(cat $card/class) in 0x0300*|0x0302*) ;; *) continue ;; esac
  echo "card $(basename "$(readlink $card/driver)")"
done
sed -n 's/^NVRM version:.*  *\\([0-9]\\{{3\\}}\\.[0-9.]*\\) .*/kernel \\1/p' \
/proc/driver/nvidia/version 2>/dev/null
grep -qi microsoft /proc/sys/kernel/osrelease && echo wsl
cat /proc/device-tree/model 2>/dev/null | tr -d '\\0' | sed -n 's/.*Jetson.*/jetson &/p'
command -v nvidia-ctk >/dev/null && timeout 10 nvidia-ctk --version 2>/dev/null \
| sed -n 's/.*CLI version */toolkit /p'
command -v nvidia-smi >/dev/null || {{ echo status {ABSENT}; exit 0; }}
said=$(timeout {SMI_TIMEOUT_SECONDS} nvidia-smi --query-gpu={QUERY} \
--format=csv,noheader,nounits 2>&1)
status=$?
echo "status $status"
printf '%s\\n' "$said" | sed 's/^/csv /'
if [ $status = 0 ]; then
  timeout {SMI_TIMEOUT_SECONDS} nvidia-smi -L | sed 's/^/list /'
  timeout {SMI_TIMEOUT_SECONDS} nvidia-smi \
| sed -n 's/.*CUDA\\( UMD\\)\\{{0,1\\}} Version: *\\([0-9][0-9.]*\\).*/cuda \\2/p'
else
  dmesg 2>/dev/null | grep -E 'NVRM: .*(Xid|fallen off the bus)' | tail -n 1 | sed 's/^/xid /'
fi
true"""
"""Reads the bus, the driver and its tool; what is not there is not told."""


class Nvidia(FactBase[dict[str, Any]]):
    """Returns what a host shows of NVIDIA's GPUs, to be judged by ``judge_gpu``.

    ``cards`` holds for each card on the bus the driver that has it, or an empty string; ``status``
    is that of ``nvidia-smi`` or ``missing``; ``csv`` its table, or its complaint.

    .. code:: python

        {"cards": ["nvidia"], "kernel": "580.65.06", "wsl": False, "jetson": None, "status": "0",
         "csv": ["0, GPU-…, NVIDIA H100 80GB HBM3, 81559, 580.65.06, 9.0, Disabled"],
         "list": ["GPU 0: …"], "cuda": "13.0", "xid": None, "toolkit": "1.19.0"}
    """

    def command(self) -> str:
        return SIGHT

    def process(self, output: list[str]) -> dict[str, Any]:
        told: dict[str, list[str]] = {}
        for line in output:
            kind, _, value = line.rstrip().partition(" ")
            told.setdefault(kind, []).append(value)
        single = {
            kind: next(iter(told.get(kind, ())), None)
            for kind in ("kernel", "jetson", "cuda", "xid", "toolkit")
        }
        return {
            **single,
            "cards": told.get("card", []),
            "wsl": "wsl" in told,
            "status": next(iter(told.get("status", ())), ABSENT),
            "csv": told.get("csv", []),
            "list": told.get("list", []),
        }


class PackageVersions(FactBase[dict[str, Any]]):
    """Returns the versions of a package that a repository offers, or why it does not answer.

    The list is only looked at: whether it is to be trusted is apt's to say, by its signature.

    + url: address of the repository's list of packages
    + package: name of the package

    .. code:: python

        {"versions": ["1.19.0-1", "1.20.0-1"], "error": None}
    """

    def command(self, url: str, package: str) -> str:
        # Apt's own client: its proxies, its certificates.
        proxies = "\n".join(PROXIES)
        return (
            f"{proxies}\nplace=$(mktemp -d); /usr/lib/apt/apt-helper -o Acquire::Retries=0 "
            "-o Acquire::http::Timeout=10 -o Acquire::https::Timeout=10 "
            "-o Acquire::https::Verify-Peer=false -o Acquire::https::Verify-Host=false "
            f"download-file {shlex.quote(url)} $place/list 2>&1 "
            "| sed -n 's/^E: Failed to fetch/error/p'; "
            f'awk \'$1 == "Package:" {{ours = $2 == "{package}"}} '
            '$1 == "Version:" && ours {print "version", $2}\' $place/list 2>/dev/null; '
            "rm -rf $place"
        )

    def process(self, output: list[str]) -> dict[str, Any]:
        told = [line.strip().partition(" ") for line in output]
        return {
            "versions": [value for kind, _, value in told if kind == "version"],
            "error": next((value for kind, _, value in told if kind == "error"), None),
        }


class NvidiaHook(FactBase[dict[str, Any]]):
    """Returns whether the Docker daemon knows NVIDIA's hook, and whom a new start would disturb.

    A daemon looks for the hook when it starts, and never again.

    .. code:: python

        {"known": False, "live_restore": True, "others": 3}
    """

    def command(self) -> str:
        return (
            "hook=$(command -v nvidia-container-runtime-hook) && [ -f /run/docker.pid ] && "
            '[ "$(stat -L -c %Z "$hook")" -le "$(stat -c %Y /run/docker.pid)" ] && echo known; '
            "timeout 10 docker info --format 'live-restore {{.LiveRestoreEnabled}}' 2>/dev/null; "
            "timeout 10 docker ps --format '{{.Names}}' 2>/dev/null "
            f"| grep -vx {CONTAINER} | sed 's/^/other /'; true"
        )

    @staticmethod
    def default() -> dict[str, Any]:
        return {"known": False, "live_restore": False, "others": 0}

    def process(self, output: list[str]) -> dict[str, Any]:
        lines = [line.strip() for line in output]
        return {
            "known": "known" in lines,
            "live_restore": "live-restore true" in lines,
            "others": sum(line.startswith("other ") for line in lines),
        }


class GpuInside(FactBase[str | None]):
    """Returns what keeps a running container from its GPUs, or None where nothing does.

    Containers have been seen to lose them when systemd reloads its units. A container that does not
    run is left to others to judge.

    + container: name of the container
    """

    def command(self, container: str) -> str:
        name = shlex.quote(container)
        return (
            f"docker inspect --format '{{{{.State.Running}}}}' {name} 2>/dev/null | grep -qx true "
            f"|| exit 0; said=$(timeout {SMI_TIMEOUT_SECONDS} docker exec {name} "
            'nvidia-smi -L 2>&1) || echo "fault $said" | head -n 1'
        )

    def requires_command(self, *_args: object, **_kwargs: object) -> str:
        return "docker"

    def process(self, output: list[str]) -> str | None:
        fault = next((line.strip() for line in output if line.startswith("fault ")), None)
        return fault.removeprefix("fault ") if fault else None


class DeviceProof(FactBase[dict[str, Any] | None]):
    """Returns what ``python -m service.csm.device`` says inside a running container.

    One without an answer is ``NO_PROOF``, with what was said instead; None: nothing was.

    + container: name of the container
    """

    def command(self, container: str) -> str:
        return (
            f"timeout {PROOF_TIMEOUT_SECONDS} docker exec {shlex.quote(container)} "
            "python -m service.csm.device --device cuda 2>&1 || true"
        )

    def requires_command(self, *_args: object, **_kwargs: object) -> str:
        return "docker"

    def process(self, output: list[str]) -> dict[str, Any] | None:
        line = next((line for line in reversed(output) if line.startswith("{")), None)
        if line is None:
            return {**NO_PROOF, "detail": " ".join(output).strip() or NO_PROOF["detail"]}
        proof: dict[str, Any] = json.loads(line)
        return proof
