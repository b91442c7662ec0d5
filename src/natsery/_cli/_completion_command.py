"""``natsery completion``: prints a shell's completion script."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command(short_help="Print a shell's completion script.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes commands and options in a shell.

    \b
      bash, in ~/.bashrc:                 eval "$(natsery completion bash)"
      zsh, in ~/.zshrc:                   eval "$(natsery completion zsh)"
      fish, in ~/.config/fish/config.fish: natsery completion fish | source
    """  # noqa: D301  # click needs the character that \\b stands for
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, "natsery", "_NATSERY_COMPLETE").source())
