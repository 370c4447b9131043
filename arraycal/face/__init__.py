"""What `import arraycal` offers to notebooks and scripts.

`calibrations` what to do, `arrays` and `blocks` what it is done to, `frames` and `pairs` tables of
the user's own, `calibrating` does it, `results` is what comes out, `display` how it looks.
"""
