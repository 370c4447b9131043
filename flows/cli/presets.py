"""``arraycal presets``: the settings that come with arraycal."""

from arraycal.config.loading import available_presets, preset_path
from arraycal.flows.terminal.console import stdout
from arraycal.flows.terminal.outcomes import Exit

__all__ = ["show_preset"]


def show_preset(name: str | None) -> Exit:
    """Print one preset as it is, or one line on each.

    Raises
    ------
    ConfigurationError
        If there is no preset of this name.
    """
    if name is not None:
        print(preset_path(name).read_text(encoding="utf-8"), end="")  # noqa: T201  to be redirected
        return Exit.USABLE
    for preset in available_presets():
        stdout().print(f"{preset:24}{_summary(preset)}", markup=False, soft_wrap=True)
    return Exit.USABLE


def _summary(preset: str) -> str:
    """The comment that a preset begins with."""
    lines = preset_path(preset).read_text(encoding="utf-8").splitlines()
    comment: list[str] = []
    for line in lines:
        if not line.startswith("#"):
            break
        comment.append(line.lstrip("# "))
    return " ".join(comment)
