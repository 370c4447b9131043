"""What a night has newly flagged in the trends, for its record and for automations."""

import logging
from datetime import date

from arraycal.config.models import Configuration
from arraycal.config.settings import Settings

__all__ = ["trend_news"]

log = logging.getLogger("arraycal.flows")


def trend_news(
    calibration: str, night: date, configuration: Configuration, settings: Settings
) -> tuple[str, ...]:
    """Telescopes with a flag that they did not have without this night.

    Parameters
    ----------
    calibration : str
        Name of the calibration, recorded for the night.
    night : date
        The night.
    configuration : Configuration
        Of the night: what gets a flag, and with which nights it is compared.
    settings : Settings
        Where the history is.

    Returns
    -------
    tuple of str
        ``MST 5: ageing: ...``, a sentence each; empty too if the history fails, which costs
        nothing but this.
    """
    # Not before: a run that finds nothing new needs none of it.
    from arraycal.calib.history.database import read_history
    from arraycal.calib.history.digest import configuration_digest
    from arraycal.calib.history.publishing import NOT_RECORDED
    from arraycal.calib.history.trends import newly_flagged

    try:
        with read_history(settings.history_url) as history:
            options, digest = configuration.TrendMonitor, configuration_digest(configuration)
            rows = newly_flagged(history, calibration, night, options, digest)
    except NOT_RECORDED as error:
        log.warning("%s: the trends are not known: %s", calibration, error)
        return ()
    texts = [f"{row['tel_type']} {row['tel_id']}: {row['reason']}" for row in rows.to_dicts()]
    for text in texts:
        log.warning("%s: trend of %s", calibration, text)
    return tuple(texts)
