"""Block devices: what they are, whichever name a host gives them."""
