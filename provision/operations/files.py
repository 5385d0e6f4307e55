"""Commands that run or write as a whole, and files that are as wanted."""

import shlex
from collections.abc import Generator, Sequence

from pyinfra import host
from pyinfra.api import Host, State, StringCommand, operation
from pyinfra.api.arguments import ConnectorArguments
from pyinfra.api.command import PyinfraCommand
from pyinfra.connectors.util import CommandOutput

from provision import facts
from provision._release import ReleaseFile

Commands = Generator[str | PyinfraCommand, None, None]


class ToldCommand(StringCommand):
    """A command that takes long: what it says is shown while it runs."""

    def execute(
        self, state: State, host: Host, connector_arguments: ConnectorArguments
    ) -> tuple[bool, CommandOutput]:
        """Run it, as pyinfra runs any other, and show its lines."""
        connector_arguments.update(self.connector_arguments)
        return host.run_shell_command(
            self, print_output=True, print_input=state.print_input, **connector_arguments
        )


def script(*lines: str) -> StringCommand:
    """Return shell lines as one command that ends at the first line that fails."""
    return StringCommand("\n".join(["set -eu", *lines]))


def told_script(*lines: str) -> ToldCommand:
    """Return shell lines as ``script`` does, for what may take long: it is shown while it runs."""
    return ToldCommand("\n".join(["set -eu", *lines]))


def write_file(path: str, content: str, mode: str = "644", owner: int = 0) -> StringCommand:
    """Return a command that writes a file whole or not at all.

    The content travels on standard input, so it stands in no command line, log or temporary file
    that others can read.
    """
    place, half = shlex.quote(path), shlex.quote(f"{path}.half")
    return StringCommand(
        f"install -D -m {mode} -o {owner} -g {owner} /dev/stdin {half} && mv -f {half} {place}",
        _stdin=content,
    )


@operation()
def ensure_files(files: Sequence[ReleaseFile]) -> Commands:
    """Write files whose content, mode or owner differ.

    + files: files with absolute paths
    """
    states = host.get_fact(facts.FileStates, paths=[file.path for file in files])
    different = [file for file in files if states.get(file.path) != file.state]
    if not different:
        host.noop("every file is as wanted")
    for file in different:
        yield write_file(file.path, file.content, file.mode, file.owner)


@operation()
def remove_file(path: str) -> Commands:
    """Remove a file of ours that is no longer wanted.

    + path: the file
    """
    if path not in host.get_fact(facts.FileStates, paths=[path]):
        host.noop(f"{path}: not there")
        return
    yield f"rm -f {shlex.quote(path)}"
