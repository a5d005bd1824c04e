"""Facts, states and plans as words and tones for pages."""
