"""The one pairing of telescopes, its rules, saturation, and the exchange with ctao-calibpipe."""
