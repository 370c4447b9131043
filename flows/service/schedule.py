"""When a night is calibrated: the schedule that the settings ask for, checked."""

from prefect.client.schemas.schedules import CronSchedule
from pydantic import ValidationError

from arraycal.config.errors import ConfigurationError
from arraycal.config.settings import Settings, variable

__all__ = ["night_schedule"]

EXPECTED = {
    "nightly_cron": "minute, hour, day of the month, month and day of the week, such as "
    "'30 8 * * *'",
    "time_zone": "a name such as UTC, Atlantic/Canary or America/Santiago",
}


def night_schedule(settings: Settings) -> CronSchedule:
    """Make the schedule of the nightly run.

    Raises
    ------
    ConfigurationError
        If the hours or the time zone make none; the message names the variable.
    """
    try:
        return CronSchedule(cron=settings.nightly_cron, timezone=settings.time_zone)
    except ValidationError as error:
        wrong = {key for detail in error.errors() for key in detail["loc"]}
    name = "time_zone" if "timezone" in wrong else "nightly_cron"
    raise ConfigurationError(
        f"{variable(name)} is {getattr(settings, name)!r}, expected {EXPECTED[name]}"
    )
