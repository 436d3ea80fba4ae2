"""What there is to choose from: recipes, tools, and the words that a shell completes."""

from __future__ import annotations

import importlib
import importlib.resources
import shlex
from dataclasses import dataclass
from typing import Literal, get_type_hints

from ..options import Positional


@dataclass
class RecipesConfig:
    """List the recipes that `--config` takes by name."""


@dataclass
class ToolsConfig:
    """List the tools by toolbox; `t3 doctor` says which of them work here.

    Args:
        toolbox (`str`, *optional*): one toolbox, with what each tool does.
    """

    toolbox: Positional[str | None] = None


@dataclass
class CompletionConfig:
    """Print what makes a shell complete commands and options: `eval "$(t3 completion bash)"` in its start file.

    Args:
        shell (`str`, *optional*, defaults to `"bash"`): `bash` or `zsh`.
    """

    shell: Positional[Literal["bash", "zsh"]] = "bash"


def recipes(config: RecipesConfig) -> int:
    """`t3 recipes`: print a table."""
    from ..reports.tables import Table, print_tables

    for command, package in (("t3 train", "trainers"), ("t3 synth", "dataset_builder.synthesis")):
        rows = []
        for file in sorted(importlib.resources.files(package).joinpath("recipes").iterdir(), key=lambda f: f.name):
            head = [line[1:].strip() for line in file.read_text("utf-8").splitlines() if line.startswith("#")]
            rows.append([file.name.removesuffix(".yaml"), " ".join(head).partition(". ")[0].rstrip(".")])
        print_tables(Table(f"{command} --config", ["recipe", "what"], rows))
    return 0


def tools(config: ToolsConfig) -> int:
    """`t3 tools`: print a table."""
    from ..reports.tables import Table, print_tables
    from ..tools.toolbox import TOOLBOXES, make_toolbox

    if config.toolbox is None:
        rows = [[name, ", ".join(tool.name for tool in kinds)] for name, kinds in TOOLBOXES.items()]
        print_tables(Table("", ["toolbox", "tools"], rows))
        return 0
    made = make_toolbox(config.toolbox)
    rows = [[f"{tool.name}({', '.join(tool.inputs)})", tool.description] for tool in made]
    print_tables(Table(config.toolbox, ["tool", "what it does"], rows))
    return 0


def completion(config: CompletionConfig) -> int:
    """`t3 completion`: print a script for the shell, in which all words stand: pressing Tab starts no Python."""
    from ..cli import COMMANDS
    from ..options import flags_of

    cases = [f'"") words={shlex.quote(" ".join(dict.fromkeys(name.split()[0] for name in COMMANDS)))} ;;']
    for name, (place, _) in COMMANDS.items():
        module, _, function = place.partition(":")
        options = get_type_hints(getattr(importlib.import_module(module), function))["config"]
        cases.append(f'"{name}") words={shlex.quote(" ".join(flags_of(options)))} ;;')
    for group in dict.fromkeys(name.split()[0] for name in COMMANDS if " " in name):
        seconds = " ".join(name.split()[1] for name in COMMANDS if name.startswith(f"{group} "))
        more = f"; words+={shlex.quote(f' {seconds}')}"
        cases = [case.replace(" ;;", f"{more} ;;") if case.startswith(f'"{group}")') else case for case in cases]
        if group not in COMMANDS:
            cases.append(f'"{group}") words={shlex.quote(seconds)} ;;')
    if config.shell == "zsh":
        print("autoload -U +X bashcompinit && bashcompinit")
    print(SCRIPT.replace("CASES", "\n    ".join(cases)))
    return 0


SCRIPT = """_t3() {
  local words="" name="${COMP_WORDS[1]}"
  [ "$COMP_CWORD" -le 1 ] && name=""
  [ "$COMP_CWORD" -gt 2 ] && case " ${COMP_WORDS[2]}" in " -"*) ;; *) name="$name ${COMP_WORDS[2]}" ;; esac
  case "$name" in
    CASES
  esac
  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _t3 t3"""
