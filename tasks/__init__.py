"""One Prefect task per stage: what is repeated after a failure, and what is shown of it."""
