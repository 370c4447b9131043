"""The science of arraycal: block files in, coefficients out, without any Prefect.

The folders, in the order of the data; each imports only from those above it::

    schema column_descriptions errors
    subarray index wording   words that everyone uses
    disk          whole files: digests, atomic replacement, locks, names
    hdf5          ctapipe-flavoured tables over h5py: the only place that knows the encoding
    dl2           block file -> events, times, pointing
    criteria      text of a cut -> polars expression
    observables   what is compared: one module per calibration
    pairs         the one pairing, its rules, saturation, exchange with ctao-calibpipe
    stamps        block file -> time stamps
    blocks        the stage of one block, and its cache
    fit           showers -> sketch -> model -> sweep -> sums -> network -> log throughputs
    gauge         what is 1 (or 0), reference telescopes, outliers
    result        tables of a result, verdict
    checks        what supports it: constancy, change points, scan, histograms, residuals
    types         telescope types against each other
    timing        clocks, and the convention of their stamps
    monitoring    the monitoring file, written and read back
    throughput    the stages after the blocks, in order
    calibrate     the one entry: rows of blocks in, result out
    apply         coefficients applied to blocks
    trends        courses of telescopes over nights
    figures       pictures of a result
    report        pages of a result
    publish       results on disk, written and read
    history       results of all nights in a database
    windows       a week or a month as one result
    nights        which blocks are of a night, its record, the index of nights
    simulation    nights of DL2 files with known truth
"""
