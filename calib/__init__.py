"""The science of arraycal: block files in, coefficients out, without any Prefect.

The modules follow the data: `dl2` reads EVENTS, `criteria` selects them, `pairs` makes PAIRS,
`summary` reduces them to SUMMARY, `network` solves SUMMARY for COEFFICIENTS, `quality` judges
the result, `store` and `report` write it. `pipeline` puts the stages in order.
"""
