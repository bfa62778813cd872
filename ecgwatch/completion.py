"""Shell completion by argcomplete: the shell starts ecgwatch with a variable set, and reads the words that fit.

argcomplete is imported only for that, and to print the script.
"""

from __future__ import annotations

import os

from monitor.command import Program, build_full_parser

SHELLS = ("bash", "zsh", "fish")
ASKED = "_ARGCOMPLETE"
"""Environment variable that the scripts set."""


def script(shell: str) -> str:
    """Return what a shell's start-up file must run, such as ``eval "$(ecgwatch completion bash)"``."""
    from argcomplete.shell_integration import shellcode

    return str(shellcode(["ecgwatch"], shell=shell))


def answer_shell(program: Program) -> None:
    """Print what fits and exit, if a shell asks; return at once if not."""
    if ASKED in os.environ:
        import argcomplete

        argcomplete.autocomplete(build_full_parser(program))
