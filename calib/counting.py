"""Numbers of things as text."""

__all__ = ["counted", "few_common"]


def counted(number: int, noun: str) -> str:
    """Write a number with its noun.

    Examples
    --------
    >>> [counted(number, "shower") for number in (0, 1, 2)]
    ['0 showers', '1 shower', '2 showers']
    """
    return f"{number} {noun}{'s' * (number != 1)}"


def few_common(best: int, needed: int) -> str:
    """Why a telescope with enough showers is tied to no other.

    Parameters
    ----------
    best : int
        Most showers in common with any telescope, those without a result included.
    needed : int
        What makes two telescopes neighbours (`min_common_events`).

    Examples
    --------
    >>> few_common(1, 20)
    'at most 1 shower in common with any telescope, 20 needed (min_common_events)'
    """
    showers = f"{counted(best, 'shower')} in common"
    if best < needed:
        return f"at most {showers} with any telescope, {needed} needed (min_common_events)"
    return (
        f"the telescopes with {needed} or more showers in common (min_common_events; at most "
        f"{best}) were left out themselves"
    )
