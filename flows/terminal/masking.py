"""What must not get into results: the password of a database on a command line."""

__all__ = ["without_secrets"]


def without_secrets(command: str, url: str | None, name: str) -> str:
    """Take the password of a database out of a command line that goes into results.

    Parameters
    ----------
    command : str
        As it was typed.
    url : str or None
        URL in it.
    name : str
        The same URL without password.

    Examples
    --------
    >>> without_secrets("arraycal merge --database pg://me:pw@host/x", "pg://me:pw@host/x", "pg:x")
    'arraycal merge --database pg:x'
    """
    if url is None:
        return command
    shown = command.replace(url, name)
    # Quoted by the shell beyond recognition: only the name of the command remains.
    return shown if name in shown else " ".join(command.split(maxsplit=2)[:2])
