"""Whether stamps follow the convention they are taken for: plane wave, pointings, parts of it."""
