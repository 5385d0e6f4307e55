"""A bar for the one check that takes a while. Knows nothing of what is being done."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn


@contextmanager
def shown_on(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """Give what shows how many of how many are done. The bar is for a terminal, and leaves none.

    + console: where the bar is drawn; nothing is written where it is no terminal
    + what: is being done, in a word or two
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(what, visible=False)

        def show(done: int, of: int) -> None:
            progress.update(task, completed=done, total=of, visible=True)

        yield show
